//! Memory that is reserved for the metrics of a version while rows are encoded.

use std::sync::Mutex;

use datafusion::execution::memory_pool::MemoryReservation;

use crate::table::Resources;
use crate::table::encoded::ENCODED_SHARE;
use crate::table::parallel::lock;

/// Bytes that the metrics of two classes take for a row: its score with class and weight, twice
/// while they are sorted.
const ROW_BYTES: usize = 16;
/// Share of the memory limit up to which memory is reserved for them.
const SHARE: f64 = 0.75;

/// Memory that stays reserved while encoded rows fill memory: the metrics after the last epoch need
/// it.
pub(in crate::table) struct MetricsReservation {
    wanted: usize,
    reservation: Mutex<MemoryReservation>,
    resources: Resources,
}

impl MetricsReservation {
    /// For the metrics of `rows` rows; nothing is reserved yet. Other reservations are assumed to
    /// stay.
    pub(in crate::table) fn new(resources: &Resources, rows: u64) -> Self {
        Self {
            wanted: (rows as usize * ROW_BYTES).min(resources.available(SHARE)),
            reservation: Mutex::new(resources.reservation("room for metrics")),
            resources: resources.clone(),
        }
    }

    /// Reserves what is still wanted, as far as it is available.
    pub(in crate::table) fn take(&self) {
        let reservation = lock(&self.reservation);
        let more = self.wanted.saturating_sub(reservation.size());
        let bytes = more.min(self.resources.available(ENCODED_SHARE));
        self.resources.try_reserve(&reservation, bytes, ENCODED_SHARE);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::execution::runtime_env::RuntimeEnvBuilder;
    use datafusion::prelude::{SessionConfig, SessionContext};
    use gradlake_udfs::Sequential;

    use super::*;

    #[test]
    fn the_room_grows_as_others_let_go() {
        let runtime = RuntimeEnvBuilder::new().with_memory_limit(1 << 20, 1.0).build_arc().unwrap();
        let state = SessionContext::new_with_config_rt(SessionConfig::new(), runtime).state();
        let resources = Resources::new(&state, Arc::default(), Arc::new(Sequential));
        let room = MetricsReservation::new(&resources, 1 << 15);
        assert_eq!((room.wanted, lock(&room.reservation).size()), (1 << 19, 0));
        let buckets = resources.reservation("buckets");
        buckets.try_grow(3 << 18).unwrap();
        room.take();
        assert_eq!(lock(&room.reservation).size(), 1 << 17);
        buckets.resize(1 << 18);
        room.take();
        room.take();
        assert_eq!(lock(&room.reservation).size(), 1 << 19);
        // At most three quarters of the limit are wanted.
        drop((room, buckets));
        assert_eq!(MetricsReservation::new(&resources, 1 << 20).wanted, 3 << 18);
    }
}
