//! The latencies of each second as an interval log of HdrHistogram, version V2, and
//! whole distributions as text, as HdrHistogram's own tools read them.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::IntervalLogWriterBuilder;

use crate::latency::Latency;
use crate::series::Second;
use crate::tally::Outcome;
use crate::watch::Watch;

/// Tag of latencies from the intended send.
pub const CORRECTED: &str = "corrected";
/// Tag of latencies from the actual send; of all latencies, in a closed loop.
pub const UNCORRECTED: &str = "uncorrected";

/// Histograms hold nanoseconds; what people read of them is in milliseconds.
const NANOS_PER_UNIT: f64 = 1e6;
/// Values of a distribution between one halving of the rest and the next.
const VALUES_PER_HALVING: u32 = 5;

/// Writes a line for each second and tag.
#[derive(Debug)]
pub struct HdrLog<W> {
    out: W,
    is_open_loop: bool,
    /// Tells the wall clock's time, for the log's header.
    now: fn() -> SystemTime,
    has_header: bool,
    is_broken: bool,
}

impl<W: Write> HdrLog<W> {
    /// A log of a run in the open loop or the closed one.
    pub fn new(out: W, is_open_loop: bool, now: fn() -> SystemTime) -> Self {
        Self { out, is_open_loop, now, has_header: false, is_broken: false }
    }

    fn write(&mut self, second: &Second, outcome: &Outcome) -> io::Result<()> {
        if !self.has_header {
            // This second has just ended.
            let ended = Duration::from_secs_f64(second.at + second.seconds);
            write_header(&mut self.out, (self.now)() - ended)?;
            self.has_header = true;
        }
        let first = if self.is_open_loop { CORRECTED } else { UNCORRECTED };
        let mut lines = String::new();
        for (tag, latency) in [(first, &outcome.tally.latency), (UNCORRECTED, &outcome.tally.service)] {
            if tag == first || self.is_open_loop {
                let max = latency.histogram().max() as f64 / NANOS_PER_UNIT;
                let (at, seconds, histogram) = (second.at, second.seconds, latency.to_base64());
                writeln!(lines, "Tag={tag},{at:.3},{seconds:.3},{max:.3},{histogram}").expect("text");
            }
        }
        self.out.write_all(lines.as_bytes())?;
        self.out.flush()
    }
}

impl<W: Write> Watch for HdrLog<W> {
    fn second(&mut self, second: &Second, outcome: &Outcome) {
        // Nothing has a latency before the first message.
        if second.at < 0.0 || self.is_broken {
            return;
        }
        if let Err(error) = self.write(second, outcome) {
            // The run goes on: its report is worth more than the log.
            eprintln!("loadgen: the interval log ends here: {error}");
            self.is_broken = true;
        }
    }
}

fn write_header(out: &mut impl Write, start: SystemTime) -> io::Result<()> {
    let mut header = Vec::new();
    IntervalLogWriterBuilder::new()
        .add_comment(concat!("[Logged with loadgen ", env!("CARGO_PKG_VERSION"), "; histograms of nanoseconds]"))
        .add_comment("[Histogram log format version 1.3]")
        .with_start_time(start)
        .with_base_time(start)
        .with_max_value_divisor(NANOS_PER_UNIT)
        .begin_log_with(&mut header, &mut V2DeflateSerializer::new())?;
    out.write_all(&header)?;
    out.write_all(b"\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"\n")
}

/// The distribution in milliseconds, one value a line, denser towards the tail.
pub fn distribution(latency: &Latency) -> String {
    let histogram = latency.histogram();
    let mut text = "       Value     Percentile TotalCount 1/(1-Percentile)\n\n".to_owned();
    let mut total = 0;
    for value in histogram.iter_quantiles(VALUES_PER_HALVING) {
        total += value.count_since_last_iteration();
        let quantile = value.quantile_iterated_to();
        let millis = value.value_iterated_to() as f64 / NANOS_PER_UNIT;
        write!(text, "{millis:12.3} {quantile:.12} {total:10}").expect("text");
        match quantile < 1.0 {
            true => writeln!(text, " {:14.2}", 1.0 / (1.0 - quantile)).expect("text"),
            false => text.push('\n'),
        }
    }
    let [mean, deviation] = [histogram.mean(), histogram.stdev()].map(|nanos| nanos / NANOS_PER_UNIT);
    let (max, count) = (histogram.max() as f64 / NANOS_PER_UNIT, histogram.len());
    // Of each power of two, as many values stay apart as three digits need.
    let (buckets, parts) = (histogram.buckets(), 2_048);
    writeln!(text, "#[Mean    = {mean:12.3}, StdDeviation   = {deviation:12.3}]").expect("text");
    writeln!(text, "#[Max     = {max:12.3}, Total count    = {count:12}]").expect("text");
    writeln!(text, "#[Buckets = {buckets:12}, SubBuckets     = {parts:12}]").expect("text");
    text
}

#[cfg(test)]
mod tests {
    use hdrhistogram::Histogram;
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    use super::*;
    use crate::course::MEASURED;

    fn noon() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_003)
    }

    fn second(at: f64) -> Second {
        let json = serde_json::json!({
            "at": at, "seconds": 1.0, "phase": MEASURED, "opened": 0, "dropped": 0, "errors": 0, "sent": 0, "received": 0,
            "lost": 0, "duplicated": 0, "reordered": 0, "corrupted": 0, "latency_us": null, "service_us": null,
        });
        serde_json::from_value(json).unwrap()
    }

    fn outcome(millis: u64) -> Outcome {
        let mut outcome = Outcome::default();
        (0..10).for_each(|_| outcome.tally.latency.record(millis * 1_000_000));
        outcome.tally.service.record(1_000_000);
        outcome
    }

    /// Tag, start, length, greatest value and count of each line.
    fn read(log: &[u8]) -> Vec<(String, f64, f64, f64, u64)> {
        let entries = IntervalLogIterator::new(log).map(|entry| entry.unwrap());
        let intervals = entries.filter_map(|entry| match entry {
            LogEntry::Interval(interval) => Some(interval),
            LogEntry::BaseTime(base) => {
                assert_eq!(base, Duration::from_secs(1_000_000_000), "when the first message left");
                None
            }
            LogEntry::StartTime(_) => None,
        });
        let line = |interval: hdrhistogram::serialization::interval_log::IntervalLogHistogram<'_>| {
            let bytes =
                base64::Engine::decode(&base64::prelude::BASE64_STANDARD, interval.encoded_histogram()).unwrap();
            let histogram: Histogram<u64> = Deserializer::new().deserialize(&mut bytes.as_slice()).unwrap();
            let (start, length) = (interval.start_timestamp().as_secs_f64(), interval.duration().as_secs_f64());
            (interval.tag().unwrap().as_str().to_owned(), start, length, interval.max().round(), histogram.len())
        };
        intervals.map(line).collect()
    }

    #[test]
    fn each_second_has_a_line_for_either_way_to_count() {
        let mut out = Vec::new();
        let mut log = HdrLog::new(&mut out, true, noon);
        log.second(&second(-0.5), &outcome(9));
        log.second(&second(2.0), &outcome(5));
        log.second(&second(3.0), &outcome(7));
        let text = String::from_utf8(out.clone()).unwrap();
        // The legend is for people; this reader does not know it.
        let known: String =
            text.lines().filter(|line| !line.starts_with('"')).map(|line| format!("{line}\n")).collect();
        let line = |tag: &str, at: f64, max: f64, count: u64| (tag.to_owned(), at, 1.0, max, count);
        let expected = [
            line(CORRECTED, 2.0, 5.0, 10),
            line(UNCORRECTED, 2.0, 1.0, 1),
            line(CORRECTED, 3.0, 7.0, 10),
            line(UNCORRECTED, 3.0, 1.0, 1),
        ];
        assert_eq!(read(known.as_bytes()), expected);
    }

    #[test]
    fn a_closed_loop_knows_no_corrected_latency() {
        let mut out = Vec::new();
        HdrLog::new(&mut out, false, noon).second(&second(2.0), &outcome(5));
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("Tag=uncorrected,2.000,1.000,5.00") && !text.contains("Tag=corrected"), "{text}");
    }

    #[test]
    fn a_distribution_ends_with_all_values() {
        let mut latency = Latency::default();
        (1..=1_000).for_each(|millis| latency.record(millis * 1_000_000));
        let text = distribution(&latency);
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0], ["Value", "Percentile", "TotalCount", "1/(1-Percentile)"]);
        let median = lines.iter().find(|line| line.get(1) == Some(&"0.500000000000")).unwrap();
        assert_eq!((&median[2..], &median[0][..3]), (&["500", "2.00"][..], "500"));
        let last = lines.iter().rfind(|line| line.len() == 3).unwrap();
        assert_eq!(last[1..], ["1.000000000000", "1000"]);
        assert!(text.contains("Total count    =         1000]") && text.contains("#[Mean    =      500."), "{text}");
        assert!(distribution(&Latency::default()).contains("Total count    =            0]"));
    }
}
