//! `GET /metrics`: the shards' counters as OpenMetrics text, which Prometheus reads, and
//! those of the process.
//!
//! Nothing is counted here: each scrape reads the cells that the shards write.

use std::fmt;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::api::{Api, error};
use super::process;
use crate::admission::AddressBound;
use crate::proto::handshake::Status;
use crate::stats::{Cell, CloseReason, Durations, ProcessStats, PublishRefusal, ReloadResult, ShardStats};

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Answers a scrape.
pub(super) async fn metrics(State(api): State<Api>) -> Response {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(process::Process { stats: api.process().clone() }));
    let scrape = Scrape { process: api.process().clone(), shards: api.stats };
    registry.sub_registry_with_prefix("wsgate").register_collector(Box::new(scrape));
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &registry) {
        Ok(()) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Err(reason) => error(StatusCode::INTERNAL_SERVER_ERROR, reason),
    }
}

/// One number of a shard: name, help, where it is.
type Number = (&'static str, &'static str, fn(&ShardStats) -> &Cell);

/// Numbers that only grow; the text adds `_total` to their names.
const COUNTERS: [Number; 36] = [
    ("accepted", "Connections accepted", |s| &s.accepted),
    ("messages_received", "Whole messages received from clients", |s| &s.messages_in),
    ("received_bytes", "Bytes read from client sockets", |s| &s.bytes_in),
    ("messages_queued", "Messages queued for one client each: replies and deliveries", |s| &s.messages_out),
    ("sent_bytes", "Bytes written to client sockets", |s| &s.bytes_out),
    ("deliveries", "Published messages queued for one subscriber each", |s| &s.deliveries),
    ("published", "Messages put in order by the shard that owns their topic", |s| &s.published),
    ("dropped", "Messages dropped for a subscriber that was told how many", |s| &s.dropped),
    ("pings_skipped", "Pings that were not answered, since a newer one was", |s| &s.pings_skipped),
    ("reading_pauses", "Times that a connection was not read: too many replies waited for it", |s| &s.reading_pauses),
    ("publisher_pauses", "Times that a publisher was not read: too much that was published waited", |s| {
        &s.publisher_pauses
    }),
    ("conflated", "Messages that a newer one replaced for a subscriber (latest_only)", |s| &s.conflated),
    ("deflated", "Messages compressed; one for many subscribers counts once", |s| &s.deflated),
    ("inflated", "Compressed messages received from clients", |s| &s.inflated),
    ("saved_sent_bytes", "Bytes that compression took off messages queued for clients", |s| &s.saved_bytes_out),
    ("saved_received_bytes", "Bytes that compression took off messages received", |s| &s.saved_bytes_in),
    ("bombs_cut", "Compressed messages cut while inflating: over the message limit", |s| &s.bombs_cut),
    ("contexts_refused", "Connections granted less context takeover than they offered: its memory was taken", |s| {
        &s.contexts_refused
    }),
    ("topics_refused", "Upgrades and messages refused: as many topics were in use as may be", |s| &s.topics_refused),
    ("topics_forgotten", "Idle topics whose offset was forgotten", |s| &s.topics_forgotten),
    ("sends", "Send calls", |s| &s.sends),
    ("flushes", "Connections that a turn sent something to, each once for each turn", |s| &s.flushes),
    ("short_sends", "Send calls that took less than they were given", |s| &s.sends_short),
    ("tls_handshakes", "TLS handshakes completed", |s| &s.tls_handshakes),
    ("tls_handshakes_failed", "TLS handshakes that failed, took too long or were left", |s| &s.tls_handshakes_failed),
    ("tls_handshakes_deferred", "Times that a TLS handshake waited for the next turn", |s| &s.tls_handshakes_deferred),
    ("tls_plaintext_refused", "Plain requests where only TLS is spoken", |s| &s.tls_plaintext_refused),
    ("tls_truncated", "TLS streams that ended without close_notify", |s| &s.tls_truncated),
    ("proxy_headers_too_long", "Connections refused for a longer PROXY header than is allowed", |s| {
        &s.proxy_headers_too_long
    }),
    ("accept_pauses", "Times that accepting paused for want of descriptors or room", |s| &s.accept_pauses),
    ("receives_starved", "Times that bytes had to wait, since all receive buffers were full (io_uring)", |s| {
        &s.receives_starved
    }),
    (
        "receives_narrowed",
        "Times that much was received and not wanted yet, so that less is asked for (io_uring)",
        |s| &s.receives_narrowed,
    ),
    ("drain_resets", "Connections reset because the time for going down was over", |s| &s.drain_resets),
    ("close_timeouts", "Connections reset because the peer did not end them in time after a Close", |s| {
        &s.close_timeouts
    }),
    ("envelopes", "Envelopes sent to other threads", |s| &s.envelopes_out),
    ("wakes", "Times that another thread had to be woken", |s| &s.wakes),
];

/// Numbers that go up and down.
const GAUGES: [Number; 17] = [
    ("connections", "Connections open, in any state", |s| &s.connections),
    ("topics", "Topics in the table, those without subscribers included", |s| &s.topics),
    ("subscriptions", "Subscriptions of clients", |s| &s.subscriptions),
    ("queue_bytes", "Bytes waiting in the queues of clients", |s| &s.queue_bytes),
    ("queue_memory_bytes", "Memory that queues keep alive; a message in several counts once", |s| {
        &s.queue_memory_bytes
    }),
    ("assembly_memory_bytes", "Memory of messages that have arrived in part", |s| &s.assembly_memory_bytes),
    ("input_memory_bytes", "Memory of other input in part: request heads, PROXY headers, TLS records", |s| {
        &s.input_memory_bytes
    }),
    ("connection_memory_bytes", "Memory of the connection table and its timers", |s| &s.connection_memory_bytes),
    ("topic_memory_bytes", "Memory of topics, their names, members and subscriptions", |s| &s.topic_memory_bytes),
    ("compression_memory_bytes", "Memory of what compresses and inflates, that of connections included", |s| {
        &s.compression_memory_bytes
    }),
    ("log_bytes", "Bytes published that not all subscribers have been offered", |s| &s.log_bytes),
    ("overflow_bytes", "Bytes waiting because another shard's mailbox is full", |s| &s.overflow_bytes),
    ("drain_phase", "Going down: 0 no, 1 announced, 2 and 3 listeners close, 4 connections are told to go", |s| {
        &s.drain_phase
    }),
    ("drain_left", "Connections that have not been told to go, once that has begun", |s| &s.drain_left),
    ("sockets", "Sockets of connections that are open, those included that are about to close", |s| &s.sockets),
    ("receive_chunks", "Parts of receive buffers with something unread (io_uring)", |s| &s.receive_chunks),
    ("accept_paused", "1 while accepting pauses for want of descriptors or room", |s| &s.accept_paused),
];

#[derive(Debug)]
struct Scrape {
    process: Arc<ProcessStats>,
    shards: Arc<[Arc<ShardStats>]>,
}

impl Scrape {
    fn shards(&self) -> impl Iterator<Item = (String, &ShardStats)> {
        self.shards.iter().enumerate().map(|(index, stats)| (index.to_string(), &**stats))
    }
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for (name, help, cell) in COUNTERS {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (shard, stats) in self.shards() {
                let labels = [("shard", shard)];
                family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&cell(stats).get(), None)?;
            }
        }
        for (name, help, cell) in GAUGES {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (shard, stats) in self.shards() {
                family.encode_family(&[("shard", shard)])?.encode_gauge(&cell(stats).get())?;
            }
        }
        let statuses: Vec<String> = Status::ALL.iter().map(|status| status.code().to_string()).collect();
        self.encode_labelled(
            &mut encoder,
            "handshakes",
            "Requests by the status that answered them",
            "status",
            &statuses,
            |s| &s.handshakes,
        )?;
        let reasons: Vec<String> = CloseReason::ALL.iter().map(|reason| reason.label().to_owned()).collect();
        self.encode_labelled(
            &mut encoder,
            "closes",
            "Connections ended, by the first cause",
            "reason",
            &reasons,
            |s| &s.closes,
        )?;
        let bounds: Vec<String> = AddressBound::ALL.iter().map(|bound| bound.label().to_owned()).collect();
        self.encode_labelled(
            &mut encoder,
            "address_refusals",
            "Connections refused for what their client's address has already",
            "bound",
            &bounds,
            |s| &s.address_refusals,
        )?;
        if let Some(bytes) = process::kernel_tcp_bytes() {
            let help = "Memory that TCP holds in this network namespace";
            encoder.encode_descriptor("kernel_tcp_bytes", help, None, MetricType::Gauge)?.encode_gauge(&bytes)?;
        }
        encode_by(
            &mut encoder,
            "reloads",
            "Configurations read again on SIGHUP, by what became of them",
            "result",
            ReloadResult::LABELS.iter().zip(&self.process.reloads),
        )?;
        encode_by(
            &mut encoder,
            "publishes_refused",
            "Messages over HTTP refused for a bound or since the gateway goes down",
            "reason",
            PublishRefusal::LABELS.iter().zip(&self.process.publishes_refused),
        )?;
        self.encode_durations(
            &mut encoder,
            "loop_turn",
            "Time that a turn of the event loop took, its waiting excluded: the loop's lag",
            |s| &s.turns,
        )?;
        self.encode_durations(
            &mut encoder,
            "publish_to_flush",
            "Time from a published message's arrival in a shard's turn until its last subscriber there was offered it",
            |s| &s.publish_to_flush,
        )
    }
}

impl Scrape {
    fn encode_labelled(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        label: &str,
        values: &[String],
        cells: fn(&ShardStats) -> &[Cell],
    ) -> fmt::Result {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (shard, stats) in self.shards() {
            for (value, cell) in values.iter().zip(cells(stats)) {
                let labels = [("shard", shard.as_str()), (label, value.as_str())];
                encode_count(&mut family, &labels, cell)?;
            }
        }
        Ok(())
    }

    fn encode_durations<const BUCKETS: usize>(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        durations: fn(&ShardStats) -> &Durations<BUCKETS>,
    ) -> fmt::Result {
        let mut family = encoder.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
        for (shard, stats) in self.shards() {
            let durations = durations(stats);
            // The encoder adds the buckets up.
            let buckets: Vec<_> = durations.buckets().collect();
            let (sum, count) = (durations.sum_seconds(), durations.count());
            let labels = [("shard", shard)];
            family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }
        Ok(())
    }
}

/// A counter of the whole process, by a label.
fn encode_by<'a>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    label: &str,
    cells: impl Iterator<Item = (&'a &'static str, &'a Cell)>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (value, cell) in cells {
        encode_count(&mut family, &[(label, *value)], cell)?;
    }
    Ok(())
}

fn encode_count(
    family: &mut prometheus_client::encoding::MetricEncoder<'_>,
    labels: &impl EncodeLabelSet,
    cell: &Cell,
) -> fmt::Result {
    family.encode_family(labels)?.encode_counter::<NoLabelSet, _, u64>(&cell.get(), None)
}
