//! Sixteen numbers at a time, in as many vectors as this machine needs for them: sums by lanes have
//! the same bits on every vector width.
//!
//! (Plain loops over arrays do not give such sums: the compiler unrolls them before it vectorises
//! them, and then adds by pairs.)

use pulp::{Arch, Simd, WithSimd};

/// Numbers that a kernel works on at a time.
pub const LANES: usize = 16;

/// Rows of lanes whose sums are taken together.
pub const BLOCK: usize = 16;

/// A kernel over [`Lanes`], of `V` vectors each.
pub trait Kernel {
    /// What it returns.
    type Output;

    /// Runs it. This function, and every function that it calls, must be `#[inline(always)]`.
    fn run<S: Simd, const V: usize>(self, simd: S) -> Self::Output;
}

/// Runs a kernel compiled for the widest vectors of this machine.
///
/// (Inlined, so that the fields of the kernel stay in registers: a copy of the kernel would wait
/// for the cache, which takes as long as the kernel takes for a row.)
#[inline(always)]
pub fn run<K: Kernel>(kernel: K) -> K::Output {
    Arch::new().dispatch(ByWidth(kernel))
}

/// A kernel that takes as many vectors as 16 numbers need.
struct ByWidth<K>(K);

impl<K: Kernel> WithSimd for ByWidth<K> {
    type Output = K::Output;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> K::Output {
        match S::F32_LANES {
            16 => self.0.run::<S, 1>(simd),
            8 => self.0.run::<S, 2>(simd),
            4 => self.0.run::<S, 4>(simd),
            _ => self.0.run::<S, 16>(simd),
        }
    }
}

/// Sixteen numbers.
#[derive(Clone, Copy)]
pub struct Lanes<S: Simd, const V: usize> {
    simd: S,
    vectors: [S::f32s; V],
}

impl<S: Simd, const V: usize> Lanes<S, V> {
    /// The same number in every lane.
    #[inline(always)]
    pub fn splat(simd: S, value: f32) -> Self {
        Self { simd, vectors: [simd.splat_f32s(value); V] }
    }

    /// Reads an array.
    #[inline(always)]
    pub fn load(simd: S, values: &[f32; LANES]) -> Self {
        let mut lanes = Self::splat(simd, 0.0);
        for (vector, values) in lanes.vectors.iter_mut().zip(S::as_simd_f32s(values).0) {
            *vector = *values;
        }
        lanes
    }

    /// Reads fewer than 16 numbers and pads them with zeros.
    #[inline(always)]
    pub fn load_part(simd: S, values: &[f32]) -> Self {
        let mut lanes = Self::splat(simd, 0.0);
        for (vector, values) in lanes.vectors.iter_mut().zip(values.chunks(S::F32_LANES)) {
            *vector = simd.partial_load_f32s(values);
        }
        lanes
    }

    /// Writes an array.
    #[inline(always)]
    pub fn store(self, to: &mut [f32; LANES]) {
        for (to, vector) in S::as_mut_simd_f32s(to).0.iter_mut().zip(self.vectors) {
            *to = vector;
        }
    }

    /// `self + other`.
    #[inline(always)]
    pub fn plus(mut self, other: Self) -> Self {
        for (sum, other) in self.vectors.iter_mut().zip(other.vectors) {
            *sum = self.simd.add_f32s(*sum, other);
        }
        self
    }

    /// `self other`.
    #[inline(always)]
    pub fn times(mut self, other: Self) -> Self {
        for (product, other) in self.vectors.iter_mut().zip(other.vectors) {
            *product = self.simd.mul_f32s(*product, other);
        }
        self
    }

    /// 0 in the lanes that the mask leaves out, whatever their values are.
    #[inline(always)]
    pub fn within(mut self, mask: Mask<S, V>) -> Self {
        let zero = self.simd.splat_f32s(0.0);
        for (vector, mask) in self.vectors.iter_mut().zip(mask.0) {
            *vector = self.simd.select_f32s(mask, *vector, zero);
        }
        self
    }
}

/// Some of sixteen lanes.
#[derive(Clone, Copy)]
pub struct Mask<S: Simd, const V: usize>([S::m32s; V]);

impl<S: Simd, const V: usize> Mask<S, V> {
    /// The lanes `start..end`.
    #[inline(always)]
    pub fn new(simd: S, start: usize, end: usize) -> Self {
        const PLACES: [u32; LANES] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
        let (start, end) = (simd.splat_u32s(start as u32), simd.splat_u32s(end as u32));
        let mut masks = [simd.less_than_u32s(start, start); V];
        for (mask, at) in masks.iter_mut().zip(S::as_simd_u32s(&PLACES).0) {
            let is_from = simd.greater_than_or_equal_u32s(*at, start);
            *mask = simd.and_m32s(is_from, simd.less_than_u32s(*at, end));
        }
        Self(masks)
    }
}

/// `to[i] = from[2 i] + from[2 i + 1]`.
#[inline(always)]
fn pairs(from: &[f32], to: &mut [f32]) {
    for (to, [a, b]) in to.iter_mut().zip(from.as_chunks().0) {
        *to = a + b;
    }
}

/// [`fold_row`] of all rows at once: one addition of vectors replaces sixteen of numbers.
#[inline(always)]
pub fn fold_block(sums: &[[f32; LANES]; BLOCK]) -> [f32; BLOCK] {
    let (mut by_8, mut by_4, mut by_2) = ([0.0; 8 * BLOCK], [0.0; 4 * BLOCK], [0.0; 2 * BLOCK]);
    let mut folded = [0.0; BLOCK];
    pairs(sums.as_flattened(), &mut by_8);
    pairs(&by_8, &mut by_4);
    pairs(&by_4, &mut by_2);
    pairs(&by_2, &mut folded);
    folded
}

/// The sum of the lanes: neighbours are added to each other, until one sum is left.
#[inline(always)]
pub fn fold_row(sums: &[f32; LANES]) -> f32 {
    let (mut by_8, mut by_4, mut by_2) = ([0.0; 8], [0.0; 4], [0.0; 2]);
    pairs(sums, &mut by_8);
    pairs(&by_8, &mut by_4);
    pairs(&by_4, &mut by_2);
    by_2[0] + by_2[1]
}

/// Sixteen running sums in float64.
#[derive(Clone, Copy)]
pub struct Sums<S: Simd, const V: usize> {
    simd: S,
    vectors: [[S::f64s; 2]; V],
}

impl<S: Simd, const V: usize> Sums<S, V> {
    /// Zeros.
    #[inline(always)]
    pub fn zero(simd: S) -> Self {
        Self { simd, vectors: [[simd.splat_f64s(0.0); 2]; V] }
    }

    /// Adds to each.
    #[inline(always)]
    pub fn add(&mut self, values: &[f64; LANES]) {
        let sums = self.vectors.as_flattened_mut().iter_mut();
        for (sum, value) in sums.zip(S::as_simd_f64s(values).0) {
            *sum = self.simd.add_f64s(*sum, *value);
        }
    }

    /// Writes an array.
    #[inline(always)]
    pub fn store(self, to: &mut [f64; LANES]) {
        for (to, sum) in S::as_mut_simd_f64s(to).0.iter_mut().zip(self.vectors.as_flattened()) {
            *to = *sum;
        }
    }
}

/// A vector width that this machine can run.
#[cfg(test)]
pub enum VectorWidth {
    /// No vectors.
    Scalar(pulp::Scalar),
    /// AVX2.
    #[cfg(target_arch = "x86_64")]
    Avx2(pulp::x86::V3),
}

#[cfg(test)]
impl VectorWidth {
    /// [`run`] at this width.
    pub fn run<K: Kernel>(&self, kernel: K) -> K::Output {
        self.dispatch(ByWidth(kernel))
    }

    /// [`Arch::dispatch`] at this width.
    pub fn dispatch<W: WithSimd>(&self, work: W) -> W::Output {
        match self {
            Self::Scalar(simd) => Simd::vectorize(*simd, work),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(simd) => Simd::vectorize(*simd, work),
        }
    }
}

/// Calls a test with the widths that are not the widest, as far as this machine has them.
#[cfg(test)]
pub fn on_every_width(test: impl Fn(&VectorWidth)) {
    test(&VectorWidth::Scalar(pulp::Scalar));
    #[cfg(target_arch = "x86_64")]
    if let Some(simd) = pulp::x86::V3::try_new() {
        test(&VectorWidth::Avx2(simd));
    }
}
