//! The metrics of a model without a target, as an aggregate function over its arguments and perhaps
//! a weight.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array, StructArray};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Float32Type};
use datafusion_common::{Result, ScalarValue, exec_err, internal_err};
use datafusion_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility};

use crate::description::Measure;
use crate::scorer::Scorer;

/// The aggregate function that gives [`crate::AlgorithmSpec::metrics`] of a model as a struct of
/// float64. Its arguments are those of [`Scorer::arguments`], then the row weight if `weighted`.
/// The metrics of the members of a partitioned model are averaged by the weights of their rows.
pub fn measure_udaf(scorer: Arc<Scorer>, weighted: bool) -> AggregateUDF {
    let name = format!("measure[{} version {}]", scorer.model().name, scorer.model().version);
    let signature = Signature::variadic_any(Volatility::Immutable);
    AggregateUDF::from(MeasureFunction { scorer, weighted, name, signature })
}

#[derive(Debug)]
struct MeasureFunction {
    scorer: Arc<Scorer>,
    weighted: bool,
    name: String,
    signature: Signature,
}

impl PartialEq for MeasureFunction {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.scorer, &other.scorer) && self.weighted == other.weighted
    }
}

impl Eq for MeasureFunction {}

impl Hash for MeasureFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

/// The fields of the result.
fn fields(scorer: &Scorer) -> Fields {
    let metrics = scorer.model().algorithm.spec().metrics.iter();
    metrics.map(|name| Field::new(*name, DataType::Float64, true)).collect()
}

impl AggregateUDFImpl for MeasureFunction {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Struct(fields(&self.scorer)))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(format!("{}_state", args.name), DataType::LargeBinary, true))])
    }

    fn accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(MeasureAccumulator {
            measures: self.scorer.measures()?,
            scorer: Arc::clone(&self.scorer),
            weighted: self.weighted,
        }))
    }
}

#[derive(Debug)]
struct MeasureAccumulator {
    scorer: Arc<Scorer>,
    weighted: bool,
    /// Of each member that was trained.
    measures: Vec<Option<Box<dyn Measure>>>,
}

impl Accumulator for MeasureAccumulator {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let Some(rows) = values.first().map(|column| column.len()) else { return Ok(()) };
        let (arguments, weight) = match (self.weighted, values.split_last()) {
            (true, Some((weight, arguments))) => (arguments, Some(weight)),
            _ => (values, None),
        };
        let weight: Vec<f32> = match weight {
            Some(weight) => {
                let weight = arrow::compute::cast(weight, &DataType::Float32)?;
                let weight = weight.as_primitive::<Float32Type>();
                // A row without a weight is left out, as in other metrics.
                weight.iter().map(|own| own.filter(|own| own.is_finite()).unwrap_or(0.0)).collect()
            }
            None => vec![1.0; rows],
        };
        if weight.iter().any(|own| *own < 0.0) {
            return exec_err!("a row has a weight below 0, which no metric can count");
        }
        self.scorer.measure(&mut self.measures, arguments, &weight)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let fields = fields(&self.scorer);
        let mut sums = vec![(0.0, 0.0); fields.len()];
        for measure in self.measures.iter().flatten() {
            let weight = measure.weight();
            for (sum, (_, metric)) in sums.iter_mut().zip(measure.metrics()) {
                if let Some(metric) = metric.filter(|_| weight > 0.0) {
                    *sum = (sum.0 + weight * metric, sum.1 + weight);
                }
            }
        }
        // (The addition turns -0.0 into 0.0.)
        let mean = |(sum, weight): (f64, f64)| (weight > 0.0).then(|| sum / weight + 0.0);
        let columns =
            sums.into_iter().map(|own| Arc::new(Float64Array::from(vec![mean(own)])) as _);
        let row = StructArray::try_new(fields, columns.collect(), None)?;
        Ok(ScalarValue::Struct(Arc::new(row)))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.measures.len() * size_of::<Option<Box<dyn Measure>>>()
    }

    /// For each member the length of its sums (u64) and the sums.
    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let mut bytes = vec![];
        for measure in &self.measures {
            let own = measure.as_ref().map_or_else(Vec::new, |measure| measure.to_bytes());
            bytes.extend((own.len() as u64).to_le_bytes());
            bytes.extend(own);
        }
        Ok(vec![ScalarValue::LargeBinary(Some(bytes))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let Some(states) = states.first().map(|states| states.as_binary::<i64>()) else {
            return internal_err!("a measure got no state to merge");
        };
        for state in states.iter().flatten() {
            let mut rest = state;
            for measure in &mut self.measures {
                let own = rest.split_first_chunk::<8>().and_then(|(length, rest)| {
                    rest.split_at_checked(u64::from_le_bytes(*length) as usize)
                });
                let Some((own, after)) = own else {
                    return internal_err!("the state of a measure is cut off");
                };
                if let Some(measure) = measure.as_mut().filter(|_| !own.is_empty()) {
                    measure.merge(own)?;
                }
                rest = after;
            }
        }
        Ok(())
    }
}
