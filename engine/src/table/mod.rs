//! Training tables: raw rows as the query returned them, then encoded rows as kernels take them.
//!
//! ```text
//! query partitions ──► RawTable ──► Subset (a group) ──► Mask (training | evaluation)
//!                                        └──► fit: encoder, labels ──► EncodedTable ──► rounds
//! Parquet pages ──► SinglePassLoad (numbers that all train) ──► fit ──► encoded in place ──┘
//! ```
//!
//! Whatever is computed here depends on the rows, their order and the seed alone: not on how the
//! query cut them into batches or partitions, nor on the number of threads, nor on what was
//! spilled. That is why every pass goes over blocks of a number of rows ([`block_rows`]) that
//! depends on the bytes of a row alone.

mod encoded;
mod load;
mod parallel;
mod shuffle;
mod single_pass;
mod storage;

use datafusion::arrow::datatypes::{DataType, Fields, Schema};
use datafusion::common::{Result, exec_datafusion_err, internal_err};
use gradlake_udfs::{Algorithm, Names};

use load::columns::{decoded_bytes, fixed_bytes};

pub use encoded::EncodedTable;
pub use encoded::encode::{Encoding, Side};
pub use encoded::slice::Slice;
pub use load::fit::Fitted;
pub use load::label_encoder::LabelEncoder;
pub use load::raw::{RawTable, Subset};
pub use load::split::Mask;
pub use load::targets::{check_class_type, check_number_type};
pub(crate) use load::usable::Usable;
pub use shuffle::epoch_order::EpochOrder;
pub use single_pass::{Arrangement, SinglePassLoad};
pub use storage::resources::Resources;

/// Rows at most of the blocks that statistics are reduced over, in order. A float32 column of a
/// block fits in 32 KB together with what the allocator needs to align it; with 8,192 rows it would
/// take 40 KB.
pub const BLOCK_ROWS: usize = 8160;
/// Bytes of a block of wide rows: each thread holds a block, and its rows encoded.
const BLOCK_BYTES: usize = 32 << 20;
/// Rows of a block at least.
const MIN_BLOCK_ROWS: usize = 16;

/// Bytes of the lists of a batch that a scan decodes; each thread holds some batches.
const BATCH_BYTES: usize = 8 << 20;

/// Rows of a batch of a scan of these columns: a block, or less where there are long lists.
pub(crate) fn batch_rows(fields: &Fields) -> usize {
    let lists = BATCH_BYTES / decoded_bytes(fields).max(1);
    block_rows(fixed_bytes(fields)).min(lists.max(MIN_BLOCK_ROWS))
}

/// Rows of a block of rows that take `row_bytes` each before they are encoded.
pub(crate) fn block_rows(row_bytes: usize) -> usize {
    (BLOCK_BYTES / row_bytes.max(1)).clamp(MIN_BLOCK_ROWS, BLOCK_ROWS)
}

/// Up to this many rows are processed directly: it takes less time than finding a thread or making
/// a plan for the work.
pub(crate) const SMALL_ROWS: u64 = 8192;

/// Runs `f` on a thread that may block, or directly if it `is_quick`; `what` names it in the error
/// if it panics.
pub(crate) async fn run_blocking<T: Send + 'static>(
    is_quick: bool,
    what: &str,
    f: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    if is_quick {
        return f();
    }
    let task = tokio::task::spawn_blocking(f);
    task.await.map_err(|e| exec_datafusion_err!("{what} failed: {e}"))?
}

/// How the target is interpreted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetKind {
    /// There is none.
    None,
    /// A number to estimate.
    Number,
    /// One of some classes.
    Class,
}

/// The names of a training query's columns by role.
#[derive(Clone, Debug)]
pub struct Roles {
    /// What is trained.
    pub algorithm: Algorithm,
    /// Features with their types, in order.
    pub inputs: Vec<(String, DataType)>,
    /// The targets; none of an algorithm without a target.
    pub targets: Vec<String>,
    /// How the target is interpreted.
    pub kind: TargetKind,
    /// Row weights.
    pub weight: Option<String>,
    /// Columns whose distinct values make groups.
    pub partition_by: Vec<String>,
    /// A boolean column, true for evaluation rows.
    pub split: Option<String>,
}

/// Indices of the columns of [`Roles`] in batches of the query.
#[derive(Clone, Debug)]
pub(crate) struct RolePlaces {
    pub inputs: Vec<usize>,
    pub targets: Vec<usize>,
    pub weight: Option<usize>,
    pub partition_by: Vec<usize>,
    pub split: Option<usize>,
}

impl RolePlaces {
    /// The indices in batches of this schema.
    ///
    /// # Errors
    /// When one lacks a column.
    pub fn new(roles: &Roles, schema: &Schema) -> Result<Self> {
        let names = Names::of(schema.fields());
        let place = |name: &String| match names.find_exact(name)? {
            Some(place) => Ok(place),
            None => internal_err!("the query lost its column {name}"),
        };
        Ok(Self {
            inputs: roles.inputs.iter().map(|(name, _)| place(name)).collect::<Result<_>>()?,
            targets: roles.targets.iter().map(place).collect::<Result<_>>()?,
            weight: roles.weight.as_ref().map(place).transpose()?,
            partition_by: roles.partition_by.iter().map(place).collect::<Result<_>>()?,
            split: roles.split.as_ref().map(place).transpose()?,
        })
    }
}
