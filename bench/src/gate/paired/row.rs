//! What servers are loaded with, in pairs.

use serde::Serialize;

use super::judge::Quantity;

/// The server's address in a load's arguments.
pub(crate) const ADDRESS: &str = "{address}";

/// What all loads have.
const USUAL: &[&str] = &["--warm-up", "300ms", "--ramp", "20000", "--threads", "1"];

/// How long messages are measured: short, since many short pairs tell more than a few long
/// ones. Two servers that take turns have half of that each.
const fn duration(takes_turns: bool) -> &'static str {
    if takes_turns { "2s" } else { "1s" }
}

/// One load.
#[derive(Clone, Serialize, Debug)]
pub(crate) struct Row {
    pub(crate) name: String,
    /// Arguments of loadgen, with [`ADDRESS`] in them.
    pub(crate) load: Vec<String>,
    pub(crate) quantities: Vec<Quantity>,
}

impl Row {
    fn new(name: &str, load: &str, quantities: &[Quantity]) -> Self {
        let row = Self { name: name.to_owned(), load: Vec::new(), quantities: quantities.to_vec() };
        let duration = ["--duration", duration(row.takes_turns())];
        let load = load.split_ascii_whitespace().chain(USUAL.iter().copied()).chain(duration);
        Self { load: load.map(str::to_owned).collect(), ..row }
    }

    /// Whether both servers run at the same time: the delays of one would contain the other's
    /// turns.
    pub(super) fn takes_turns(&self) -> bool {
        self.quantities == [Quantity::Cpu]
    }

    /// A load in somebody's own words.
    pub(crate) fn own(name: String, load: &str) -> Self {
        let load: Vec<String> = load.split_ascii_whitespace().map(str::to_owned).collect();
        let has_rate = load.iter().any(|word| word.starts_with("-R") || word.starts_with("--rate"));
        let quantities = if has_rate { vec![Quantity::P50, Quantity::P99] } else { vec![Quantity::Cpu] };
        Self { name, load, quantities }
    }
}

/// The loads of wsgate. Delays are compared where the load has a rate: without, a server
/// that is faster is asked more.
pub(crate) fn rows() -> Vec<Row> {
    use Quantity::{Cpu, P50, P99};
    vec![
        Row::new("echo-100", "echo ws://{address}/echo --connections 100 --payload 20", &[Cpu]),
        Row::new("echo-100-x16", "echo ws://{address}/echo --connections 100 --payload 20 --in-flight 16", &[Cpu]),
        Row::new("echo-rate", "echo ws://{address}/echo --connections 100 --payload 32 --rate 2000", &[P50, P99]),
        Row::new(
            "fanout-1000",
            "fanout ws://{address}/topics/room --publisher-query subscribe=off --connections 1000",
            &[Cpu],
        ),
        Row::new(
            "fanout-1000-x64",
            "fanout ws://{address}/topics/room --publisher-query subscribe=off --connections 1000 --in-flight 64",
            &[Cpu],
        ),
        Row::new(
            "fanout-rate",
            "fanout ws://{address}/topics/room --publisher-query subscribe=off --connections 200 --rate 200",
            &[P50, P99],
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_compared_under_a_rate_and_cpu_without() {
        let of = |load: &str| Row::own("own".to_owned(), load).quantities;
        assert_eq!(of("echo ws://{address}/ -c 10"), [Quantity::Cpu]);
        for rate in ["-R 100", "-R100", "--rate 100", "--rate=100"] {
            assert_eq!(of(&format!("echo ws://{{address}}/ {rate}")), [Quantity::P50, Quantity::P99], "{rate}");
        }
    }

    #[test]
    fn every_load_names_the_server_and_compares_something() {
        for row in rows() {
            assert!(row.load.iter().any(|argument| argument.contains(ADDRESS)), "{}", row.name);
            assert!(!row.quantities.is_empty(), "{}", row.name);
        }
    }
}
