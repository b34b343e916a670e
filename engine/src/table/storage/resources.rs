//! What tables may use: memory of the pool, files of the disk manager, cores, and when to stop.

use std::sync::Arc;

use datafusion::common::{Result, exec_err};
use datafusion::execution::SessionState;
use datafusion::execution::disk_manager::DiskManager;
use datafusion::execution::memory_pool::{
    MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation,
};
use gradlake_udfs::{Interrupt, ParallelFor};

/// Memory, disk, cores and the interrupt, shared by all tables of a training.
#[derive(Clone, Debug)]
pub struct Resources {
    memory: Arc<dyn MemoryPool>,
    disk: Arc<DiskManager>,
    interrupt: Arc<Interrupt>,
    pool: Arc<dyn ParallelFor>,
}

impl Resources {
    /// The resources of a session, with the cores that `pool` runs on.
    pub fn new(
        state: &SessionState,
        interrupt: Arc<Interrupt>,
        pool: Arc<dyn ParallelFor>,
    ) -> Self {
        let runtime = state.runtime_env();
        Self {
            memory: Arc::clone(&runtime.memory_pool),
            disk: Arc::clone(&runtime.disk_manager),
            interrupt,
            pool,
        }
    }

    /// The pool that runs independent closures.
    pub fn pool(&self) -> &dyn ParallelFor {
        self.pool.as_ref()
    }

    /// A reservation that holds nothing yet.
    pub fn reservation(&self, name: &str) -> MemoryReservation {
        MemoryConsumer::new(format!("gradlake {name}")).register(&self.memory)
    }

    /// Reserves `bytes` if all reservations stay below `share` of the limit, and returns whether it
    /// did.
    pub fn try_reserve(&self, reservation: &MemoryReservation, bytes: usize, share: f64) -> bool {
        if let MemoryLimit::Finite(limit) = self.memory.memory_limit()
            && (self.memory.reserved() + bytes) as f64 > limit as f64 * share
        {
            return false;
        }
        reservation.try_grow(bytes).is_ok()
    }

    /// Bytes that can still be reserved below `share` of the limit.
    pub fn available(&self, share: f64) -> usize {
        match self.memory.memory_limit() {
            MemoryLimit::Finite(limit) => {
                ((limit as f64 * share) as usize).saturating_sub(self.memory.reserved())
            }
            _ => usize::MAX,
        }
    }

    /// Where spilled chunks go.
    pub fn disk(&self) -> &Arc<DiskManager> {
        &self.disk
    }

    /// Fails when the training was asked to stop.
    pub fn check_interrupt(&self) -> Result<()> {
        self.interrupt.check()
    }

    /// Reserves what cannot be spilled.
    pub fn reserve(&self, reservation: &MemoryReservation, bytes: usize, what: &str) -> Result<()> {
        match reservation.try_grow(bytes) {
            Ok(()) => Ok(()),
            Err(_) => exec_err!(
                "{what} needs {} MB more than the memory limit of {} allows; raise the limit or \
                 train on fewer rows, columns or categories",
                bytes.div_ceil(1 << 20).max(1),
                match self.memory.memory_limit() {
                    MemoryLimit::Finite(limit) => format!("{} MB", limit >> 20),
                    _ => "the machine".to_owned(),
                }
            ),
        }
    }
}
