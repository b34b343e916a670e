//! Which buffers hold which values, and when: the operations of a pass in one order, and for every
//! value the first and the last operation that touches it.

use super::layer::Source;

/// A value that some operations touch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lifetime {
    /// Numbers of a row.
    pub(crate) len: usize,
    /// The first operation.
    pub(crate) begin: usize,
    /// The last operation.
    pub(crate) end: usize,
}

/// Assigns every value to a buffer, so that no two values that live at the same time share one.
/// Returns the place of each, and the numbers a row of each buffer.
///
/// The values are taken by size, the largest first (Pisarchyk and Lee 2020, "Efficient memory
/// management for deep neural net inference", greedy by size): each to the first buffer that is
/// free throughout its life.
pub(crate) fn assign(values: &[Lifetime]) -> (Vec<Source>, Vec<usize>) {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by_key(|i| (std::cmp::Reverse(values[*i].len), *i));
    let mut slots: Vec<(usize, Vec<(usize, usize)>)> = vec![];
    let mut places = vec![0; values.len()];
    for i in order {
        let value = values[i];
        let is_free = |(_, taken): &(usize, Vec<(usize, usize)>)| {
            taken.iter().all(|(begin, end)| value.end < *begin || value.begin > *end)
        };
        let slot = slots.iter().position(is_free).unwrap_or_else(|| {
            slots.push((0, vec![]));
            slots.len() - 1
        });
        slots[slot].0 = slots[slot].0.max(value.len);
        slots[slot].1.push((value.begin, value.end));
        places[i] = slot;
    }
    let sizes: Vec<usize> = slots.into_iter().map(|(size, _)| size).collect();
    let of =
        |(value, slot): (&Lifetime, usize)| Source { slot, stride: sizes[slot], len: value.len };
    (values.iter().zip(places).map(of).collect(), sizes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_one_time_share_no_buffer_and_others_do() {
        let value = |len, begin, end| Lifetime { len, begin, end };
        let values = [value(4, 0, 1), value(9, 1, 2), value(3, 2, 3), value(5, 3, 4)];
        let (places, sizes) = assign(&values);
        for (i, a) in values.iter().enumerate() {
            for (j, b) in values.iter().enumerate().filter(|(j, _)| *j != i) {
                let apart = a.end < b.begin || b.end < a.begin;
                assert!(apart || places[i].slot != places[j].slot, "{i} {j}");
            }
            assert!(places[i].len <= sizes[places[i].slot] && places[i].len == a.len);
        }
        assert_eq!(sizes.len(), 2);
        assert_eq!(sizes.iter().sum::<usize>(), 9 + 4);
    }
}
