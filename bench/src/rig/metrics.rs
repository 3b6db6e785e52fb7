//! Reads wsgate's own counters: what it says of its sends and turns.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

/// A connection to wsgate's admin address.
#[derive(Debug)]
pub(crate) struct Metrics {
    reader: BufReader<TcpStream>,
    request: String,
}

/// All counters at one moment.
#[derive(Debug)]
pub(crate) struct Scrape(String);

impl Metrics {
    pub(crate) fn connect(admin: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(admin)?;
        stream.set_nodelay(true)?;
        let request = format!("GET /metrics HTTP/1.1\r\nHost: {admin}\r\n\r\n");
        Ok(Self { reader: BufReader::new(stream), request })
    }

    pub(crate) fn scrape(&mut self) -> io::Result<Scrape> {
        self.reader.get_mut().write_all(self.request.as_bytes())?;
        let mut line = String::new();
        self.reader.read_line(&mut line)?;
        if !line.starts_with("HTTP/1.1 200 ") {
            return Err(io::Error::other(format!("/metrics answered {line:?}")));
        }
        let mut length = 0;
        while line.trim_end() != "" {
            line.clear();
            self.reader.read_line(&mut line)?;
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().map_err(io::Error::other)?;
            }
        }
        let mut body = vec![0; length];
        self.reader.read_exact(&mut body)?;
        String::from_utf8(body).map(Scrape).map_err(io::Error::other)
    }
}

impl Scrape {
    /// A counter's value in each shard, by the shard's number.
    pub(crate) fn by_shard(&self, name: &str) -> Vec<u64> {
        let values = self.0.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix("{shard=\""));
        let mut numbered: Vec<(u16, u64)> = values
            .filter_map(|rest| {
                let (shard, value) = rest.split_once("\"} ")?;
                Some((shard.parse().ok()?, value.parse().ok()?))
            })
            .collect();
        numbered.sort_unstable();
        numbered.into_iter().map(|(_, value)| value).collect()
    }

    /// A number of the whole process; `None` if it is not there.
    pub(crate) fn of_process(&self, name: &str) -> Option<u64> {
        self.0.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    }

    /// A counter's sum over all shards for each value of one of its labels.
    pub(crate) fn by_label(&self, name: &str, label: &str) -> BTreeMap<String, u64> {
        let mut sums = BTreeMap::new();
        for line in self.0.lines() {
            let sample = line.strip_prefix(name).and_then(|rest| rest.strip_prefix('{')?.split_once("} "));
            let Some((labels, value)) = sample else { continue };
            let of_label =
                |pair: &str| Some(pair.strip_prefix(label)?.strip_prefix("=\"")?.trim_end_matches('"').to_owned());
            if let Some((label, value)) = labels.split(',').find_map(of_label).zip(value.parse::<u64>().ok()) {
                *sums.entry(label).or_default() += value;
            }
        }
        sums
    }

    /// A counter's sum over all shards.
    pub(crate) fn sum(&self, name: &str) -> u64 {
        self.by_shard(name).iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_by_whole_name_and_in_the_order_of_shards() {
        let text = "# TYPE wsgate_sends counter\nwsgate_sends_total{shard=\"1\"} 7\nwsgate_sends_total{shard=\"0\"} 5\n\
                    wsgate_short_sends_total{shard=\"0\"} 9\nwsgate_sends_total_of_all 3\n# EOF\n";
        let scrape = Scrape(text.to_owned());
        assert_eq!(scrape.by_shard("wsgate_sends_total"), [5, 7]);
        assert_eq!(scrape.sum("wsgate_sends_total"), 12);
        assert_eq!(scrape.sum("wsgate_absent_total"), 0);
    }

    #[test]
    fn counters_with_more_labels_are_summed_over_shards() {
        let text = "wsgate_closes_total{shard=\"0\",reason=\"drain\"} 2\nwsgate_closes_total{shard=\"0\",reason=\"a\"} 1\n\
                    wsgate_closes_total{shard=\"1\",reason=\"drain\"} 3\nwsgate_kernel_tcp_bytes 4096\n";
        let scrape = Scrape(text.to_owned());
        let expected = [("a".to_owned(), 1), ("drain".to_owned(), 5)];
        assert_eq!(scrape.by_label("wsgate_closes_total", "reason"), expected.into());
        assert_eq!(scrape.by_label("wsgate_closes", "reason"), BTreeMap::new());
        assert_eq!(scrape.of_process("wsgate_kernel_tcp_bytes"), Some(4096));
        assert_eq!(scrape.of_process("wsgate_kernel"), None);
    }
}
