//! `train(reference, [features], [bytes], [categories], [label], weight, replica)`: the training
//! aggregate.
//!
//! `reference` is a literal that names a round (see [`StateResolver`]). The other arguments are the
//! columns of an encoded table; `features`, `bytes` and `categories` are present only if the rows
//! have them.
//! All except the replica may be dictionaries with the same keys: then rows are learned in another
//! order than they are stored. The result is the round's, as bytes in its documented layout.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeListArray, LargeBinaryArray, PrimitiveArray, RecordBatch,
    UInt32Array,
};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Field, FieldRef, Float32Type, UInt8Type, UInt32Type,
};
use datafusion_common::{Result, ScalarValue, exec_err, internal_err, plan_err};
use datafusion_expr::expr::AggregateFunctionParams;
use datafusion_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, ColumnarValue, Expr, Signature, Volatility,
};

use crate::batch::{MiniBatch, Width};
use crate::resolver::StateResolver;
use crate::round::{Partial, Replica, Round};

/// Name of the aggregate in SQL.
pub const TRAIN: &str = "train";

/// The aggregate; `resolver` finds the rounds that calls refer to.
pub fn train_udaf(resolver: Arc<dyn StateResolver>) -> AggregateUDF {
    AggregateUDF::from(Train { resolver, signature: Signature::variadic_any(Volatility::Volatile) })
}

#[derive(Debug)]
struct Train {
    resolver: Arc<dyn StateResolver>,
    signature: Signature,
}

impl PartialEq for Train {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.resolver, &other.resolver)
    }
}

impl Eq for Train {}

impl Hash for Train {
    fn hash<H: Hasher>(&self, state: &mut H) {
        TRAIN.hash(state);
    }
}

/// The text of a literal reference, or an error that says what is expected.
fn reference_of(value: Option<&ScalarValue>) -> Result<&str> {
    match value.map(ScalarValue::try_as_str) {
        Some(Some(Some(reference))) => Ok(reference),
        _ => plan_err!(
            "the first argument of train must be a literal reference to a round, such as 'm/1/0'"
        ),
    }
}

impl Train {
    /// `train(m/1/3)`: the columns are always those of the encoded table.
    fn short_name(params: &AggregateFunctionParams) -> Result<String> {
        let literal = match params.args.first() {
            Some(Expr::Literal(value, _)) => Some(value),
            _ => None,
        };
        Ok(format!("{TRAIN}({})", reference_of(literal)?))
    }
}

impl AggregateUDFImpl for Train {
    fn name(&self) -> &str {
        TRAIN
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::LargeBinary)
    }

    fn schema_name(&self, params: &AggregateFunctionParams) -> Result<String> {
        Self::short_name(params)
    }

    fn human_display(&self, params: &AggregateFunctionParams) -> Result<String> {
        Self::short_name(params)
    }

    fn display_name(&self, params: &AggregateFunctionParams) -> Result<String> {
        Self::short_name(params)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(
            format!("{}[partials]", args.name),
            DataType::LargeBinary,
            true,
        ))])
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let literal = match args.exprs.first() {
            Some(e) => match e.evaluate(&RecordBatch::new_empty(Arc::new(args.schema.clone()))) {
                Ok(ColumnarValue::Scalar(value)) => Some(value),
                _ => None,
            },
            None => None,
        };
        let reference = reference_of(literal.as_ref())?.to_owned();
        let round = self.resolver.round(&reference)?;
        let columns = Columns::new(round.width());
        columns.check(args.expr_fields)?;
        Ok(Box::new(TrainAccumulator {
            reference,
            round,
            columns,
            waiting: None,
            replica: None,
            partials: vec![],
        }))
    }
}

/// The indices of the columns of an encoded row among the arguments.
#[derive(Clone, Copy, Debug)]
struct Columns {
    width: Width,
}

impl Columns {
    fn new(width: Width) -> Self {
        Self { width }
    }

    /// Number of arguments, including the reference.
    fn len(&self) -> usize {
        let Width { dense, bytes, columns, targets, .. } = self.width;
        3 + [dense, bytes, columns, targets].iter().filter(|n| **n > 0).count()
    }

    fn check(&self, fields: &[FieldRef]) -> Result<()> {
        let list = |item: DataType, n: usize| {
            DataType::FixedSizeList(Arc::new(Field::new("item", item, false)), n as i32)
        };
        let mut expected = vec![];
        if self.width.dense > 0 {
            expected.push(("features", list(DataType::Float32, self.width.dense)));
        }
        if self.width.bytes > 0 {
            expected.push(("bytes", list(DataType::UInt8, self.width.bytes)));
        }
        if self.width.columns > 0 {
            expected.push(("categories", list(DataType::UInt32, self.width.columns)));
        }
        match self.width.targets {
            0 => {}
            1 => expected.push(("label", DataType::Float32)),
            k => expected.push(("label", list(DataType::Float32, k))),
        }
        expected.push(("weight", DataType::Float32));
        expected.push(("replica", DataType::UInt32));
        if fields.len() != self.len() {
            let names: Vec<_> = expected.iter().map(|(name, _)| *name).collect();
            return plan_err!(
                "train takes a reference and the columns {}, but got {} arguments",
                names.join(", "),
                fields.len()
            );
        }
        for (field, (name, data_type)) in fields[1..].iter().zip(&expected) {
            let plain = match field.data_type() {
                DataType::Dictionary(key, values)
                    if *name != "replica" && **key == DataType::UInt32 =>
                {
                    values
                }
                plain => plain,
            };
            if !plain.equals_datatype(data_type) {
                return plan_err!(
                    "the {name} of train must be {data_type}, but are {}",
                    field.data_type()
                );
            }
        }
        Ok(())
    }

    /// The rows of a batch without copying any.
    fn rows<'a>(&self, values: &'a [ArrayRef]) -> Result<Given<'a>> {
        if values.len() != self.len() {
            return internal_err!("train got {} columns instead of {}", values.len(), self.len());
        }
        let mut columns = values[1..].iter();
        let mut order = None;
        let mut column = || -> Result<&'a ArrayRef> {
            let Some(column) = columns.next() else { return internal_err!("train lost a column") };
            let Some(dictionary) = column.as_dictionary_opt::<UInt32Type>() else {
                return Ok(column);
            };
            let keys: &'a UInt32Array = dictionary.keys();
            let same = order.get_or_insert(keys);
            if keys.null_count() > 0
                || !std::ptr::eq(same.values().as_ref(), keys.values().as_ref())
            {
                return exec_err!("the columns of train have different keys");
            }
            Ok(dictionary.values())
        };
        let (mut dense, mut bytes, mut codes): (&[f32], &[u8], &[u32]) = (&[], &[], &[]);
        if self.width.dense > 0 {
            dense = list_values::<Float32Type>(column()?)?;
        }
        if self.width.bytes > 0 {
            bytes = list_values::<UInt8Type>(column()?)?;
        }
        if self.width.columns > 0 {
            codes = list_values::<UInt32Type>(column()?)?;
        }
        let label: &[f32] = match self.width.targets {
            0 => &[],
            1 => {
                let label = column()?.as_primitive::<Float32Type>();
                if label.null_count() > 0 {
                    return exec_err!("an encoded table has no NULL, but the column label has");
                }
                label.values()
            }
            _ => list_values::<Float32Type>(column()?)?,
        };
        let weight = column()?.as_primitive::<Float32Type>();
        let replica = column()?.as_primitive::<UInt32Type>();
        if weight.null_count() + replica.null_count() > 0 {
            return exec_err!("an encoded table has no NULL, but the columns of train have");
        }
        let rows = weight.len();
        let lie = MiniBatch {
            rows,
            dense,
            bytes,
            codes,
            label,
            weight: weight.values(),
            ..MiniBatch::default()
        };
        let n = order.map_or(rows, Array::len);
        let fit = [
            (dense.len(), rows * self.width.dense),
            (bytes.len(), rows * self.width.bytes),
            (codes.len(), rows * self.width.columns),
            (label.len(), rows * self.width.targets),
            (weight.len(), rows),
            (replica.len(), n),
        ];
        if fit.iter().any(|(found, wanted)| found != wanted) {
            return internal_err!("the columns of train have different lengths");
        }
        Ok(Given { lie, order: order.map(|keys| &**keys.values()), replica: replica.values() })
    }
}

/// The rows of a batch of arguments of `train`.
struct Given<'a> {
    /// The rows in the order in which they are stored.
    lie: MiniBatch<'a>,
    /// The indices of the rows to learn from, in order; None: all rows in place.
    order: Option<&'a [u32]>,
    /// The replica of each row to learn from.
    replica: &'a [u32],
}

/// The values of a list column in one slice, `[rows, width]`.
fn list_values<T: ArrowPrimitiveType>(array: &ArrayRef) -> Result<&[T::Native]> {
    let list: &FixedSizeListArray = array.as_fixed_size_list();
    let width = list.value_length() as usize;
    let values: &PrimitiveArray<T> = list.values().as_primitive();
    if list.null_count() + values.null_count() > 0 {
        return exec_err!("an encoded table has no NULL, but the columns of train have");
    }
    let start = list.offset() * width;
    Ok(&values.values()[start..start + list.len() * width])
}

#[derive(Debug)]
struct TrainAccumulator {
    reference: String,
    round: Arc<dyn Round>,
    columns: Columns,
    /// A batch with an order of its own. It is learned when the next batch has arrived, whose rows
    /// are prefetched meanwhile.
    waiting: Option<Vec<ArrayRef>>,
    /// The replica that learns from this accumulator's rows; None before the first row.
    replica: Option<(u32, Box<dyn Replica>)>,
    partials: Vec<Partial>,
}

impl TrainAccumulator {
    /// Learns the waiting batch and ends the round of the own replica.
    fn finish_rounds(&mut self) -> Result<()> {
        if let Some(batch) = self.waiting.take() {
            self.learn(&self.columns.rows(&batch)?, None)?;
        }
        self.finish_replica()
    }

    fn finish_replica(&mut self) -> Result<()> {
        if let Some((index, mut replica)) = self.replica.take() {
            self.partials.push(Partial { replica: index, bytes: replica.finish()? });
        }
        Ok(())
    }

    /// Lets replicas learn from the rows of a batch, and prefetches those of `next` meanwhile.
    fn learn(&mut self, given: &Given<'_>, next: Option<&MiniBatch<'_>>) -> Result<()> {
        // Rows of one replica are contiguous; where the replica changes, the next one begins.
        let mut start = 0;
        while start < given.replica.len() {
            let rest = &given.replica[start..];
            let index = rest[0];
            // (Nearly always all rows have one replica; the fold checks this many rows at a time.)
            let is_one = rest.iter().fold(true, |same, r| same & (*r == index));
            let len = match is_one {
                true => rest.len(),
                false => rest.iter().take_while(|r| **r == index).count(),
            };
            let width = self.columns.width;
            let replica = self.replica(index)?;
            match given.order {
                Some(order) => {
                    replica.update_gathered(&given.lie, &order[start..start + len], next)?;
                }
                None => {
                    let mut own = given.lie.slice(start, start + len, width);
                    own.first_row = 0;
                    replica.update(&own)?;
                }
            }
            start += len;
        }
        Ok(())
    }

    /// The replica with this index; ends the previous one.
    fn replica(&mut self, index: u32) -> Result<&mut dyn Replica> {
        if self.replica.as_ref().is_none_or(|(current, _)| *current != index) {
            self.finish_replica()?;
            self.replica = Some((index, self.round.replica(index)?));
        }
        match &mut self.replica {
            Some((_, replica)) => Ok(replica.as_mut()),
            None => internal_err!("a replica vanished"),
        }
    }
}

impl Accumulator for TrainAccumulator {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let columns = self.columns;
        let given = columns.rows(values)?;
        if let Some(batch) = self.waiting.take() {
            self.learn(&columns.rows(&batch)?, Some(&given.lie))?;
        }
        if given.order.is_some() {
            self.waiting = Some(values.to_vec());
            return Ok(());
        }
        self.learn(&given, None)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.finish_rounds()?;
        self.partials.sort_by_key(|p| p.replica);
        if let Some(pair) = self.partials.windows(2).find(|p| p[0].replica == p[1].replica) {
            return exec_err!(
                "replica {} of round {} came twice: its rows do not stand together",
                pair[0].replica,
                self.reference
            );
        }
        Ok(ScalarValue::LargeBinary(Some(self.round.merge(std::mem::take(&mut self.partials))?)))
    }

    fn size(&self) -> usize {
        let own = if self.replica.is_some() { self.round.replica_bytes() } else { 0 };
        size_of_val(self) + own + self.partials.iter().map(|p| p.bytes.capacity()).sum::<usize>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.finish_rounds()?;
        let partials = std::mem::take(&mut self.partials);
        Ok(vec![ScalarValue::LargeBinary(Some(pack(&self.reference, &partials)))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let Some(states) = states.first().map(|s| s.as_binary::<i64>()) else {
            return internal_err!("train got no state to merge");
        };
        let states: &LargeBinaryArray = states;
        for state in states.iter().flatten() {
            self.partials.extend(unpack(&self.reference, state)?);
        }
        Ok(())
    }
}

/// Partial results as bytes, little-endian: length of the reference (u64), the reference, then
/// for each partial its replica (u32), length (u64) and bytes.
fn pack(reference: &str, partials: &[Partial]) -> Vec<u8> {
    let mut bytes = (reference.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(reference.as_bytes());
    for partial in partials {
        bytes.extend_from_slice(&partial.replica.to_le_bytes());
        bytes.extend_from_slice(&(partial.bytes.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&partial.bytes);
    }
    bytes
}

/// Reads the bytes that [`pack`] wrote, and refuses those of another round.
fn unpack(reference: &str, bytes: &[u8]) -> Result<Vec<Partial>> {
    let Some((found, mut rest)) = take_block(bytes) else {
        return exec_err!("a partial state of train is damaged");
    };
    if found != reference.as_bytes() {
        return exec_err!(
            "a partial state of round {} cannot be merged into round {reference}",
            String::from_utf8_lossy(found)
        );
    }
    let mut partials = vec![];
    while let Some((replica, after)) = rest.split_first_chunk::<4>() {
        let Some((body, after)) = take_block(after) else {
            return exec_err!("a partial state of train is damaged");
        };
        partials.push(Partial { replica: u32::from_le_bytes(*replica), bytes: body.to_vec() });
        rest = after;
    }
    if !rest.is_empty() {
        return exec_err!("a partial state of train is damaged");
    }
    Ok(partials)
}

/// A block of bytes preceded by its length, and the bytes after it.
fn take_block(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<8>()?;
    rest.split_at_checked(u64::from_le_bytes(*len) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partials_come_back_and_other_ancestors_are_refused() {
        let partials = vec![
            Partial { replica: 3, bytes: vec![1, 2, 3] },
            Partial { replica: 0, bytes: vec![] },
        ];
        let bytes = pack("m/1/7", &partials);
        assert_eq!(unpack("m/1/7", &bytes).unwrap(), partials);
        let error = unpack("m/1/8", &bytes).unwrap_err().to_string();
        assert!(error.contains("round m/1/7 cannot be merged into round m/1/8"), "{error}");
        assert!(unpack("m/1/7", &bytes[..bytes.len() - 1]).is_err());
        assert!(unpack("m/1/7", &[0xff; 9]).is_err());
    }
}
