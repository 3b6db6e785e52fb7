//! What was found of the attacks, and whether the targets were kept.

use std::collections::BTreeMap;

use super::kinds::Kind;
use super::{MESSAGES_PER_SECOND, PAYLOAD_BYTES, SUBSCRIBERS, Sample};
use crate::rig::verdict::{Judgement, Verdict};
use crate::targets::report::{Findings, Table, each, max_of, median_of, mib, show_spread};

/// What the time at p99 may be, of the quiet one: so many times as long, or so many
/// milliseconds longer, whichever is more.
const TIMES_MAX: f64 = 3.0;
const ADDED_MS_MAX: f64 = 5.0;

/// What the pools of a shard may keep for later use, whatever is configured: free batches,
/// buffers, assemblies, and the growth of tables.
const POOLS_BYTES: u64 = 32 * 1024 * 1024;

/// A publisher that is later than this at p99, in milliseconds, was held up by the attack's
/// share of the processor.
const LATE_MS_MAX: f64 = 2.0;

const HEAD: [&str; 13] = [
    "attack",
    "rate",
    "connections held at most",
    "opened, ended by the server, of these 429 for the address, per second",
    "publish to flush p99, quiet",
    "attacked",
    "turn p99, quiet",
    "attacked",
    "delay p99, quiet",
    "attacked",
    "RSS growth of allowed",
    "kernel growth",
    "server, attack busy",
];

pub(super) fn find(kinds: &[Kind], samples: &[Sample]) -> Findings {
    let of = |kind: &Kind| -> Vec<&Sample> { samples.iter().filter(|sample| sample.attack == kind.name).collect() };
    let mut verdicts = Vec::new();
    let mut remarks = Vec::new();
    for kind in kinds {
        let samples = of(kind);
        verdicts.extend(judge(kind, &samples));
        remarks.extend(samples.iter().map(|sample| remark(kind, sample)));
        let late = max_of(&samples, |sample| sample.attacked.late.p99);
        if late > LATE_MS_MAX {
            remarks.push(format!(
                "{}: the honest publisher itself was {late:.1} ms late at p99, so the load's processor is part of the \
                 delay, and messages came to the server in lumps",
                kind.title
            ));
        }
    }
    Findings {
        tables: vec![Table {
            title: format!("{SUBSCRIBERS} subscribers, {MESSAGES_PER_SECOND} × {PAYLOAD_BYTES} B per second to each"),
            head: HEAD.to_vec(),
            rows: kinds.iter().map(|kind| row(kind, &of(kind))).collect(),
        }],
        verdicts,
        remarks,
        others_busy_max: max_of(samples, |sample| sample.others_busy),
        samples: serde_json::json!(samples),
    }
}

fn row(kind: &Kind, samples: &[&Sample]) -> Vec<String> {
    let ms = |figure: fn(&&Sample) -> f64| show_spread(&each(samples, figure), |value| format!("{value:.2} ms"));
    let percent = |figure: fn(&&Sample) -> f64| format!("{:.0} %", median_of(samples, figure) * 100.0);
    let rate = |figure: fn(&&Sample) -> f64| format!("{:.0}", median_of(samples, figure));
    vec![
        kind.title.to_owned(),
        format!("{} {}/s", rate(|sample| sample.rate), kind.unit),
        format!(
            "{:.0}",
            max_of(samples, |sample| sample.most.connections.saturating_sub(sample.before.connections) as f64)
        ),
        [rate(|sample| sample.opened), rate(|sample| sample.ended), rate(|sample| sample.refused)].join(", "),
        ms(|sample| sample.quiet.flush_p99),
        ms(|sample| sample.attacked.flush_p99),
        ms(|sample| sample.quiet.turn_p99),
        ms(|sample| sample.attacked.turn_p99),
        ms(|sample| sample.quiet.delay.p99),
        ms(|sample| sample.attacked.delay.p99),
        format!("{} of {}", mib(max_of(samples, |sample| resident_growth(sample))), mib(allowed(kind) as f64)),
        mib(max_of(samples, |sample| sample.most.kernel as f64 - sample.before.kernel as f64)),
        format!("{}, {}", percent(|sample| sample.server_busy), percent(|sample| sample.attack_busy)),
    ]
}

fn judge(kind: &Kind, samples: &[&Sample]) -> [Verdict; 3] {
    let verdict = |what: &str, result| Verdict { target: format!("{}: {what}", kind.title), result };
    [
        verdict(
            &format!("publish to flush at p99 within max({TIMES_MAX} ×, + {ADDED_MS_MAX} ms) of its quiet value"),
            judge_times(samples.iter().map(|sample| (sample.quiet.flush_p99, sample.attacked.flush_p99))),
        ),
        verdict(
            "the honest got everything",
            Judgement::certain(
                samples.iter().all(|sample| sample.quiet.lost.is_none() && sample.attacked.lost.is_none()),
            ),
        ),
        verdict(
            "memory within what is configured",
            Judgement::certain(samples.iter().all(|sample| {
                resident_growth(sample) <= allowed(kind) as f64 && sample.most.queues <= super::QUEUE_BYTES_TOTAL_MAX
            })),
        ),
    ]
}

/// Met in every round, missed in every one, or neither.
fn judge_times(times: impl Iterator<Item = (f64, f64)>) -> Judgement {
    let held: Vec<bool> =
        times.map(|(quiet, attacked)| attacked <= (quiet * TIMES_MAX).max(quiet + ADDED_MS_MAX)).collect();
    match held.iter().filter(|held| **held).count() {
        _ if held.is_empty() => Judgement::NotJudged,
        0 => Judgement::Missed,
        count if count == held.len() => Judgement::Met,
        _ => Judgement::Open,
    }
}

fn resident_growth(sample: &Sample) -> f64 {
    sample.most.resident.saturating_sub(sample.before.resident) as f64
}

fn allowed(kind: &Kind) -> u64 {
    kind.held_max + POOLS_BYTES
}

fn remark(kind: &Kind, sample: &Sample) -> String {
    let counts = |counts: &BTreeMap<String, u64>| -> String {
        let counts: Vec<_> = counts.iter().map(|(label, count)| format!("{count} {label}")).collect();
        if counts.is_empty() { "none".to_owned() } else { counts.join(", ") }
    };
    let lost = sample.quiet.lost.iter().chain(&sample.attacked.lost).map(|why| format!("; LOST: {why}"));
    format!(
        "{}, round {}: closed {}; answered {}; refused for {}; counted {}{}",
        kind.title,
        sample.round + 1,
        counts(&sample.closes),
        counts(&sample.statuses),
        counts(&sample.refusals),
        counts(&sample.counters),
        lost.collect::<String>()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_may_be_thrice_the_quiet_one_or_five_milliseconds_more() {
        let cases: [(&[(f64, f64)], _); 5] = [
            (&[(0.1, 5.0), (4.0, 12.0)], Judgement::Met),
            (&[(0.1, 5.2)], Judgement::Missed),
            (&[(4.0, 12.1)], Judgement::Missed),
            (&[(4.0, 12.1), (4.0, 4.0)], Judgement::Open),
            (&[], Judgement::NotJudged),
        ];
        for (times, expected) in cases {
            assert_eq!(judge_times(times.iter().copied()), expected, "{times:?}");
        }
    }
}
