//! What a queue drops when more waits in it than may.
//!
//! A frame that is on its way is never cut. What is for this peer alone (replies, the
//! answer to its upgrade, control frames) stays: only published frames are dropped.

use super::outbound::{Outbound, Queue, Segment};
use crate::proto::frame::{self, OpCode};

impl Outbound {
    /// Drops all published frames.
    pub(super) fn drop_published(&mut self) {
        let Some(queue) = &mut self.0 else { return };
        let mut keep = queue.set_first_apart();
        let bytes = &mut queue.bytes;
        queue.segments.retain(|segment| {
            let kept = std::mem::take(&mut keep) || matches!(segment, Segment::Private(_));
            if !kept {
                *bytes -= segment.as_bytes().len();
            }
            kept
        });
    }

    /// Drops published frames, the oldest first, until `bytes_max` bytes wait, and puts a
    /// marker in their place. Returns how many were dropped. The newest frame stays.
    pub(super) fn drop_oldest(&mut self, bytes_max: usize) -> u64 {
        let Some(queue) = &mut self.0 else { return 0 };
        let dropped = queue.drop_oldest(bytes_max);
        let lost = dropped.frames + dropped.told_before;
        if lost > 0 {
            let mut marker = Vec::new();
            frame::append_server(&mut marker, OpCode::Text, format!("{{\"gap\":{lost}}}").as_bytes());
            queue.bytes += marker.len();
            queue.segments.insert(dropped.at, Segment::Gap { marker, lost });
        }
        dropped.frames
    }

    /// Drops all published frames but the newest, without a marker. Returns how many.
    pub(super) fn keep_newest(&mut self) -> u64 {
        self.0.as_mut().map_or(0, |queue| queue.drop_oldest(0).frames)
    }
}

#[derive(Default)]
struct Dropped {
    frames: u64,
    /// Frames of markers that had not left yet and were taken out with them.
    told_before: u64,
    /// Where the first one was.
    at: usize,
}

impl Queue {
    /// Makes what is on its way a segment of its own; whether there is such a one.
    fn set_first_apart(&mut self) -> bool {
        let Some(Segment::Shared { batch, start, end }) = self.segments.front_mut() else {
            return self.first_sent > 0;
        };
        let position = *start + self.first_sent;
        let frame_end = batch.frame_end(position);
        if position == frame_end {
            // Between two frames: what is sent is not counted any more.
            *start = position;
            self.first_sent = 0;
            return false;
        }
        if frame_end < *end {
            let rest = Segment::Shared { batch: batch.clone(), start: frame_end, end: *end };
            *end = frame_end;
            self.segments.insert(1, rest);
        }
        true
    }

    fn drop_oldest(&mut self, bytes_max: usize) -> Dropped {
        let (mut frames, mut told_before, mut first) = (0, 0, None);
        let mut at = usize::from(self.set_first_apart());
        // Counted from the back, where nothing is removed.
        let newest = self.segments.iter().rev().position(|segment| matches!(segment, Segment::Shared { .. }));
        while self.bytes > bytes_max && at < self.segments.len() {
            let is_newest = newest == Some(self.segments.len() - 1 - at);
            match &mut self.segments[at] {
                Segment::Private(_) => {
                    at += 1;
                    continue;
                }
                Segment::Gap { marker, lost } => {
                    self.bytes -= marker.len();
                    told_before += *lost;
                }
                Segment::Shared { batch, start, end } => {
                    let frame_end = batch.next_frame(*start);
                    if is_newest && frame_end == *end {
                        break;
                    }
                    self.bytes -= frame_end - *start;
                    *start = frame_end;
                    frames += 1;
                    if frame_end < *end {
                        first.get_or_insert(at);
                        continue;
                    }
                }
            }
            first.get_or_insert(at);
            self.segments.remove(at);
        }
        Dropped { frames, told_before, at: first.unwrap_or_default() }
    }
}

#[cfg(test)]
#[path = "overflow_tests.rs"]
mod tests;
