//! What a server says of itself: Prometheus' text format over HTTP.
//!
//! The process's own figures have names that client libraries of many languages share;
//! all else that counts upwards is taken as the server's own counters.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ureq::Agent;

use super::sample::Sample;

/// How long an answer is waited for. The run goes on meanwhile, its messages too.
const PATIENCE: Duration = Duration::from_millis(500);

/// An address that is scraped.
#[derive(Debug)]
pub(super) struct Metrics {
    url: String,
    agent: Agent,
    has_process: bool,
}

impl Metrics {
    /// Scrapes it once, to see that it can be.
    ///
    /// # Errors
    /// In words: why it cannot, and what to do.
    pub(super) fn open(url: &str) -> Result<Self, String> {
        if !url.starts_with("http://") {
            return Err(format!(
                "--metrics {url}: only http:// is spoken there, such as http://127.0.0.1:8001/metrics"
            ));
        }
        let agent = Agent::config_builder().timeout_global(Some(PATIENCE)).build().new_agent();
        let mut metrics = Self { url: url.to_owned(), agent, has_process: false };
        let sample = metrics.sample().map_err(|error| {
            format!("--metrics {url}: {error}; is the address right, and does the server export there?")
        })?;
        if sample == Sample::default() {
            return Err(format!("--metrics {url}: the answer has no figures in Prometheus' text format"));
        }
        metrics.has_process = sample.cpu.is_some();
        Ok(metrics)
    }

    /// Its address.
    pub(super) fn name(&self) -> String {
        self.url.clone()
    }

    /// What it does not say, and what to do about it.
    pub(super) fn remark(&self) -> Option<String> {
        (!self.has_process).then(|| "has no process_cpu_seconds_total; --pid tells what it takes".to_owned())
    }

    /// Scrapes it.
    ///
    /// # Errors
    /// In words: why there is no answer.
    pub(super) fn sample(&self) -> Result<Sample, String> {
        let answer = self.agent.get(&self.url).call().and_then(|mut answer| answer.body_mut().read_to_string());
        answer.map(|text| parse(&text)).map_err(|error| error.to_string())
    }
}

fn parse(text: &str) -> Sample {
    let mut kinds = BTreeMap::new();
    for line in text.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            kinds.insert(name, kind.trim());
        }
    }
    let (mut values, mut counters) = (BTreeMap::<&str, f64>::new(), BTreeSet::new());
    for (name, value) in text.lines().filter_map(series) {
        *values.entry(name).or_default() += value;
        let family = name.strip_suffix("_total").unwrap_or(name);
        if [name, family].iter().any(|name| kinds.get(name) == Some(&"counter")) {
            counters.insert(name);
        }
    }
    let value = |name: &str| values.get(name).copied();
    let counters = counters.into_iter().filter(|name| !name.starts_with("process_"));
    Sample {
        cpu: value("process_cpu_seconds_total").and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
        rss_bytes: value("process_resident_memory_bytes"),
        files: value("process_open_fds"),
        threads: value("process_threads"),
        counters: counters.map(|name| (name.to_owned(), values[name])).collect(),
    }
}

/// Name and value of a line: `name 1`, `name{label="value"} 1 1700000000`.
fn series(line: &str) -> Option<(&str, f64)> {
    let line = line.trim();
    let name_len = line.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'))?;
    let (name, rest) = line.split_at(name_len);
    // Values of labels may hold any character, but are quoted.
    let rest = if rest.starts_with('{') { rest.rsplit_once('}')?.1 } else { rest };
    let value = rest.split_ascii_whitespace().next()?.parse().ok()?;
    (!name.is_empty()).then_some((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_names_are_the_process_and_the_rest_are_its_counters() {
        let text = "# TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total 12.5\n\
                    # TYPE process_resident_memory_bytes gauge\nprocess_resident_memory_bytes 1.5e+06\n\
                    process_open_fds 7\n# TYPE sends counter\nsends_total{shard=\"0\",of=\"a } b\"} 5 1700000000\n\
                    sends_total{shard=\"1\"} 7\n# TYPE http_requests_total counter\nhttp_requests_total 3\n\
                    # TYPE depth gauge\ndepth 9\n# EOF\n";
        let sample = parse(text);
        assert_eq!((sample.cpu, sample.rss_bytes), (Some(Duration::from_millis(12_500)), Some(1_500_000.0)));
        assert_eq!((sample.files, sample.threads), (Some(7.0), None));
        let counters = [("http_requests_total".to_owned(), 3.0), ("sends_total".to_owned(), 12.0)];
        assert_eq!(sample.counters, counters.into());
    }

    #[test]
    fn what_is_no_metric_is_no_figure() {
        assert_eq!(parse("<html>Not found 404</html>\n{}\n# HELP a 1\nname\n"), Sample::default());
        let error = Metrics::open("https://a/metrics").unwrap_err();
        assert!(error.contains("--metrics https://a/metrics: only http://"), "{error}");
    }
}
