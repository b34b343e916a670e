//! Flat buffers of one layout copied to another: inputs and outputs that are added, removed or
//! reordered.

use super::Layout;

/// Sources of the new rows of the first weight (inputs) and the new units of the last layer
/// (outputs). An inner None: the row or unit is new. An outer None: all stay as they are.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reshape<'a> {
    /// By new input, the old one.
    pub inputs: Option<&'a [Option<usize>]>,
    /// By new output, the old one.
    pub outputs: Option<&'a [Option<usize>]>,
}

impl Reshape<'_> {
    /// Copies `from` in the layout `old` over `to` in the layout `new`, which must have the same
    /// tensors in other shapes. New rows and units keep the values that `to` has.
    pub fn copy(&self, old: &Layout, new: &Layout, from: &[f32], to: &mut [f32]) {
        let last = new.tensors().last().map_or(0, |tensor| tensor.layer);
        for (before, after) in old.tensors().iter().zip(new.tensors()) {
            // A bias is one row of units.
            let (rows, units) = match after.shape.as_slice() {
                [rows, units] => (*rows, *units),
                _ => (1, after.len()),
            };
            let old_units = before.shape.last().copied().unwrap_or(0);
            let source = &from[before.range()];
            let target = &mut to[after.range()];
            let is_first_weight = after.layer == 0 && after.shape.len() == 2;
            for row in 0..rows {
                let old_row = match self.inputs {
                    Some(inputs) if is_first_weight => inputs[row],
                    _ => Some(row),
                };
                let Some(old_row) = old_row else { continue };
                for unit in 0..units {
                    let old_unit = match self.outputs {
                        Some(outputs) if after.layer == last => outputs[unit],
                        _ => Some(unit),
                    };
                    let Some(old_unit) = old_unit else { continue };
                    target[row * units + unit] = source[old_row * old_units + old_unit];
                }
            }
        }
    }

    /// The same for the optimizer's moments: `buffers` buffers of the parameters' length one after
    /// another, then totals, which belong to no single parameter.
    pub fn copy_moments(
        &self,
        (old, new): (&Layout, &Layout),
        buffers: usize,
        from: &[f32],
        to: &mut [f32],
    ) {
        let (from, totals) = from.split_at(buffers * old.len());
        let (to, totals_after) = to.split_at_mut(buffers * new.len());
        let pairs = from.chunks_exact(old.len().max(1)).zip(to.chunks_exact_mut(new.len().max(1)));
        for (from, to) in pairs {
            self.copy(old, new, from, to);
        }
        totals_after.copy_from_slice(totals);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learner::Role;

    fn layout(inputs: usize, outputs: usize) -> Layout {
        let mut layout = Layout::default();
        layout.push(0, "weight", vec![inputs, outputs], Role::Weight);
        layout.push(0, "bias", vec![outputs], Role::Intercept);
        layout
    }

    #[test]
    fn inputs_and_outputs_come_from_where_they_were() {
        let (old, new) = (layout(2, 2), layout(3, 3));
        let from = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let mut to = [9.0; 12];
        let map = Reshape {
            inputs: Some(&[Some(1), None, Some(0)]),
            outputs: Some(&[Some(1), Some(0), None]),
        };
        map.copy(&old, &new, &from, &mut to);
        assert_eq!(to, [4.0, 3.0, 9.0, 9.0, 9.0, 9.0, 2.0, 1.0, 9.0, 6.0, 5.0, 9.0]);
        let mut same = [0.0; 6];
        Reshape::default().copy(&old, &old, &from, &mut same);
        assert_eq!(same, from);

        let moments: Vec<f32> = from.iter().chain(&from).chain(&[7.0, 8.0]).copied().collect();
        let mut grown = vec![9.0; 2 * 12 + 2];
        map.copy_moments((&old, &new), 2, &moments, &mut grown);
        assert_eq!(
            (&grown[..12], &grown[12..24], &grown[24..]),
            (&to[..], &to[..], &[7.0, 8.0][..])
        );
    }
}
