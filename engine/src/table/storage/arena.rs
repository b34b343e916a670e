//! Raw rows in pieces of memory of their own ([`Allocation`]); each piece is released with its last
//! row.

use datafusion::arrow::array::{Array, ArrayData, ArrayRef, RecordBatch, make_array};
use datafusion::arrow::buffer::{BooleanBuffer, NullBuffer};
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::Result;

use crate::table::storage::buffer_pool::{Allocation, PageSize, SharedBuffer, Span};

/// Bytes of a piece: many pages of any size, but a small part of a table for which an arena is
/// worth it.
const PIECE_BYTES: usize = 8 << 20;

/// Copies batches into pieces of memory, and returns them.
#[derive(Default)]
pub(in crate::table) struct Arena {
    piece: Option<Allocation>,
    used: usize,
    waiting: Vec<Waiting>,
}

/// A batch whose buffers are in the piece that is being filled.
struct Waiting {
    schema: SchemaRef,
    rows: usize,
    columns: Vec<Column>,
}

/// The position of a column in the piece.
struct Column {
    data_type: DataType,
    values: Span,
    nulls: Option<Span>,
}

impl Arena {
    /// Takes a batch, and returns the batches of a piece that is full. A batch with columns other
    /// than numbers and booleans is returned as it is; a batch larger than a piece gets a piece of
    /// its size.
    pub(in crate::table) fn push(&mut self, batch: RecordBatch) -> Result<Vec<RecordBatch>> {
        let Some(bytes) = bytes(&batch) else {
            let mut done = self.finish()?;
            done.push(batch);
            return Ok(done);
        };
        let mut done = vec![];
        if self.piece.as_ref().is_none_or(|piece| self.used + bytes > piece.len()) {
            done = self.finish()?;
            let piece = Allocation::zeroed(PIECE_BYTES.max(bytes), PageSize::Huge)?;
            self.piece = Some(piece);
        }
        let columns = batch.columns().iter().map(|column| self.copy(column)).collect();
        self.waiting.push(Waiting { schema: batch.schema(), rows: batch.num_rows(), columns });
        Ok(done)
    }

    /// Returns the remaining batches.
    pub(in crate::table) fn finish(&mut self) -> Result<Vec<RecordBatch>> {
        let Some(piece) = self.piece.take() else { return Ok(vec![]) };
        self.used = 0;
        let piece = piece.freeze();
        let waiting = std::mem::take(&mut self.waiting);
        waiting.into_iter().map(|own| own.batch(&piece)).collect()
    }

    fn copy(&mut self, column: &ArrayRef) -> Column {
        let data = column.to_data();
        let rows = data.offset()..data.offset() + data.len();
        let values = match data.data_type().primitive_width() {
            Some(width) => self.write(&data.buffers()[0][rows.start * width..rows.end * width]),
            // Only booleans are taken without a primitive width.
            None => self.write(&data.buffers()[0].bit_slice(rows.start, rows.len())),
        };
        let nulls = data.nulls().map(|nulls| self.write(&nulls.inner().sliced()));
        Column { data_type: data.data_type().clone(), values, nulls }
    }

    fn write(&mut self, bytes: &[u8]) -> Span {
        let span = Span { start: self.used, bytes: bytes.len() };
        if let Some(piece) = &mut self.piece {
            piece.bytes()[span.start..span.end()].copy_from_slice(bytes);
        }
        self.used = span.next();
        span
    }
}

impl Waiting {
    fn batch(self, piece: &SharedBuffer) -> Result<RecordBatch> {
        let mut columns = vec![];
        for column in self.columns {
            let nulls = column
                .nulls
                .map(|span| NullBuffer::new(BooleanBuffer::new(piece.buffer(span), 0, self.rows)));
            let data = ArrayData::builder(column.data_type)
                .len(self.rows)
                .add_buffer(piece.buffer(column.values))
                .nulls(nulls);
            columns.push(make_array(data.build()?));
        }
        Ok(RecordBatch::try_new(self.schema, columns)?)
    }
}

/// Bytes of a batch in a piece; None if a column has neither numbers nor booleans.
fn bytes(batch: &RecordBatch) -> Option<usize> {
    let rows = batch.num_rows();
    let place = |bits: usize| Span { start: 0, bytes: (bits * rows).div_ceil(8) }.next();
    let column = |column: &ArrayRef| {
        let values = match column.data_type() {
            DataType::Boolean => place(1),
            other => place(8 * other.primitive_width()?),
        };
        Some(values + if column.nulls().is_some() { place(1) } else { 0 })
    };
    batch.columns().iter().map(column).sum()
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{BooleanArray, Float32Array, Int64Array, StringArray};

    use std::sync::Arc;

    use super::*;

    fn batch(first: usize, rows: usize) -> RecordBatch {
        let numbers = (first..first + rows).map(|i| (i % 5 != 0).then_some(i as f32));
        let whole = (first..first + rows).map(|i| i as i64 - 7);
        let truths = (first..first + rows).map(|i| (i % 7 != 0).then_some(i % 3 == 0));
        let columns: [(&str, ArrayRef); 3] = [
            ("numbers", Arc::new(numbers.collect::<Float32Array>())),
            ("whole", Arc::new(whole.collect::<Int64Array>())),
            ("truths", Arc::new(truths.collect::<BooleanArray>())),
        ];
        RecordBatch::try_from_iter_with_nullable(columns.map(|(n, c)| (n, c, true))).unwrap()
    }

    #[test]
    fn batches_come_back_in_order_as_they_were_whatever_their_offsets() {
        let mut pieces = Arena::default();
        let mut given = vec![];
        let mut back = vec![];
        // Some pieces of the usual size, and a batch that is larger than one.
        for i in 0..300 {
            let rows = if i == 100 { 900_000 } else { 8160 };
            let own = batch(i * 10_000, rows + 5).slice(3 + i % 2, rows);
            back.extend(pieces.push(own.clone()).unwrap());
            given.push(own);
        }
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["a", "b"]));
        let texts = RecordBatch::try_from_iter([("texts", texts)]).unwrap();
        back.extend(pieces.push(texts.clone()).unwrap());
        given.push(texts);
        assert!(pieces.finish().unwrap().is_empty());
        given.push(batch(1, 9));
        back.extend(pieces.push(batch(1, 9)).unwrap());
        back.extend(pieces.finish().unwrap());
        assert_eq!(given, back);
    }
}
