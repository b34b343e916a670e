//! Bytes of rows read as numbers.

use super::{MiniBatch, Width};
use crate::kernels::math::vectorized;

/// Reads the bytes of rows as numbers among the dense ones: `byte / divisor` in float32, which is
/// what [`Encoder::encode`](crate::encoder::Encoder::encode) gives.
#[derive(Clone, Debug)]
pub struct Decoder {
    /// Width of the rows as they are stored.
    width: Width,
    /// The inputs in order: so many numbers, or so many bytes with their divisor.
    runs: Vec<(usize, Option<f32>)>,
}

impl Decoder {
    pub(super) fn new(width: Width, runs: Vec<(usize, Option<f32>)>) -> Self {
        Self { width, runs }
    }

    /// Width of the rows that it reads.
    pub fn width(&self) -> Width {
        self.width
    }

    /// The same rows without bytes; their numbers `[rows, d + bytes]` are written to `dense`.
    pub fn decode<'a>(&self, rows: &MiniBatch<'a>, dense: &'a mut Vec<f32>) -> MiniBatch<'a> {
        let (d, b) = (self.width.dense, self.width.bytes);
        let n = d + b;
        dense.resize(rows.rows * n, 0.0);
        vectorized(
            #[inline(always)]
            || {
                for (row, mut out) in dense.chunks_exact_mut(n).enumerate() {
                    let mut numbers = &rows.dense[row * d..(row + 1) * d];
                    let mut bytes = &rows.bytes[row * b..(row + 1) * b];
                    for (len, divisor) in &self.runs {
                        let (own, rest) = out.split_at_mut(*len);
                        out = rest;
                        match divisor {
                            Some(divisor) => {
                                for (out, byte) in own.iter_mut().zip(bytes) {
                                    *out = f32::from(*byte) / divisor;
                                }
                                bytes = &bytes[*len..];
                            }
                            None => {
                                own.copy_from_slice(&numbers[..*len]);
                                numbers = &numbers[*len..];
                            }
                        }
                    }
                }
            },
        );
        MiniBatch { dense, bytes: &[], ..*rows }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Element, FieldSpec, RowSchema};
    use super::*;

    /// The division in float32 is the one in float64, rounded, for every byte and divisor.
    #[test]
    fn bytes_become_the_numbers_of_the_encoder() {
        for divisor in 1..=255u8 {
            let bytes =
                |name| FieldSpec::new(name, Element::U8 { divisor: f32::from(divisor) }, vec![128]);
            let number = || FieldSpec::new("features", Element::F32, vec![1]);
            let schema = RowSchema::new(vec![number(), bytes("a"), number(), bytes("b")], 0, 0);
            let decoder = schema.decoder().unwrap();
            let bytes: Vec<u8> = (0..=255).chain((0..=255).rev()).collect();
            let rows = MiniBatch {
                rows: 2,
                dense: &[0.5, -0.5, 7.0, 8.0],
                bytes: &bytes,
                weight: &[1.0, 2.0],
                ..MiniBatch::default()
            };
            let mut dense = vec![9.0];
            let decoded = decoder.decode(&rows, &mut dense);
            assert_eq!((decoded.dense.len(), decoded.bytes.len()), (2 * 258, 0));
            assert_eq!((decoded.rows, decoded.weight), (2, rows.weight));
            let scaled = |byte: u8| (f64::from(byte) / f64::from(divisor)) as f32;
            for (row, numbers) in [(0, [0.5, -0.5]), (1, [7.0, 8.0])] {
                let (mut truth, own) = (vec![], &bytes[256 * row..256 * (row + 1)]);
                for (number, bytes) in numbers.iter().zip(own.chunks(128)) {
                    truth.push(*number);
                    truth.extend(bytes.iter().map(|byte| scaled(*byte)));
                }
                assert_eq!(decoded.dense[258 * row..258 * (row + 1)], truth, "{divisor}");
            }
        }
    }
}
