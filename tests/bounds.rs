//! The table of bounds in `docs/operations.md`: complete, and true about metrics.
#![allow(missing_docs, clippy::disallowed_methods)]

mod common;

use common::TestServer;

/// Settings that are named like bounds and are none: how often a silent peer is asked, and
/// who has no bounds.
const NO_BOUNDS: [&str; 2] = ["timeouts.ping_interval_ms", "address_limits.exempt"];

/// Whether a name of the table, with at most one `*`, stands for this setting.
fn covers(name: &str, key: &str) -> bool {
    match name.split_once('*') {
        Some((start, end)) => key.starts_with(start) && key.ends_with(end),
        None => name == key,
    }
}

#[test]
fn the_table_of_bounds_has_every_bound_and_names_metrics_that_exist() {
    let (_, rest) = include_str!("../docs/operations.md").split_once("### Bounds").expect("the table of bounds");
    let table = rest.split("\n## ").next().unwrap_or_default();
    let names: Vec<&str> = table.split('`').collect();

    let keys = include_str!("../docs/configuration.md").lines().filter_map(|line| line.strip_prefix("### `"));
    let keys = keys.map(|line| line.trim_end_matches('`')).filter(|key| {
        let section = key.split('.').next().unwrap_or_default();
        ["limits", "address_limits", "timeouts"].contains(&section) || key.ends_with("bytes_max")
    });
    let bounds: Vec<&str> = keys.filter(|key| !NO_BOUNDS.contains(key)).collect();
    assert!(bounds.len() > 25, "{bounds:?}");
    for key in bounds {
        assert!(names.iter().any(|name| covers(name, key)), "{key} is not in the table of bounds");
    }

    let (status, metrics) = TestServer::start().http("GET /metrics HTTP/1.1", b"");
    assert_eq!(status, 200);
    for name in names.iter().filter(|name| name.starts_with("wsgate_")) {
        let name = name.split('{').next().unwrap_or_default();
        let (family, kind) = name.strip_suffix("_total").map_or((name, "gauge"), |family| (family, "counter"));
        assert!(metrics.contains(&format!("# TYPE {family} {kind}\n")), "there is no {kind} {name}");
    }
}
