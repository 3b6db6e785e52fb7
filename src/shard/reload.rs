//! What a shard takes over while it runs.

use super::Shard;
use crate::command::LiveOptions;

impl Shard {
    /// Follows other options from here on: origins and rights for whoever connects next,
    /// policies from the next message of each topic on. Nobody who is here is closed.
    pub(super) fn reload(&mut self, options: &LiveOptions) {
        self.settings.origin = options.origin.clone();
        self.settings.routes.anonymous_subscribe = options.anonymous_subscribe;
        self.settings.routes.anonymous_publish = options.anonymous_publish;
        self.hub.follow_policies(options.policies.clone());
    }
}
