//! What is counted about compression.

use super::Shard;

impl Shard {
    /// Brings the numbers up to date with what was compressed and inflated.
    pub(super) fn count_compression(&self) {
        if !self.settings.compression.enabled {
            return;
        }
        let counts = self.compression.counts();
        self.stats.deflated.set(counts.deflated);
        self.stats.inflated.set(counts.inflated);
        self.stats.saved_bytes_in.set(counts.inflated_saved_bytes);
        self.stats.contexts_refused.set(counts.contexts_refused);
        self.stats.bombs_cut.set(counts.bombs);
        self.stats.compression_memory_bytes.set(self.compression.memory_bytes() as u64);
    }
}
