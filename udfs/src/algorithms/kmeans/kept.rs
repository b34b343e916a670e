//! The rows that come first in some order, kept during a pass: a sample, or the farthest rows.
//!
//! Rows are kept by their content. Equal rows count as one, at the first place that any of them has
//! in the order, with the sum of their weights. So what is kept depends neither on the order in
//! which rows arrive nor on how they are divided.

use std::collections::{BTreeMap, HashMap};

use datafusion_common::{Result, exec_err};

use super::points::Points;
use crate::batch::Width;
use crate::exact::bytes::{Reader, Writer};

/// A kept row.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct KeptRow {
    pub(super) dense: Vec<f32>,
    pub(super) codes: Vec<u32>,
    /// See [`Points::scale`].
    pub(super) scale: f32,
    /// Sum of weights of the rows equal to it.
    pub(super) weight: f64,
    /// Their number.
    pub(super) copies: f64,
    /// Number of their cluster, where it matters.
    pub(super) cluster: u32,
}

/// At most `size` rows, those with the least places in an order.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Kept {
    width: Width,
    size: usize,
    /// By (place in the order, hash of the content).
    rows: BTreeMap<(u64, u64), KeptRow>,
    /// The places by hash.
    places: HashMap<u64, u64>,
}

impl Kept {
    pub(super) fn new(width: Width, size: usize) -> Self {
        Self { width, size, rows: BTreeMap::new(), places: HashMap::new() }
    }

    /// Number of kept rows.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The last place that a row may have to be kept.
    pub(super) fn last(&self) -> u64 {
        match self.rows.last_key_value() {
            _ if self.size == 0 => 0,
            Some(((place, _), _)) if self.rows.len() >= self.size => *place,
            _ => u64::MAX,
        }
    }

    /// Offers a row with this place and hash, which `make` copies if it is kept.
    pub(super) fn offer(&mut self, place: u64, hash: u64, make: impl FnOnce() -> KeptRow) {
        if let Some(known) = self.places.get(&hash).copied() {
            let Some(mut own) = self.rows.remove(&(known, hash)) else { return };
            let other = make();
            own.weight += other.weight;
            own.copies += other.copies;
            let place = known.min(place);
            self.places.insert(hash, place);
            self.rows.insert((place, hash), own);
            return;
        }
        let is_last = |rows: &BTreeMap<(u64, u64), KeptRow>| match rows.last_key_value() {
            Some((last, _)) => (place, hash) > *last,
            None => false,
        };
        if self.size == 0 || (self.rows.len() >= self.size && is_last(&self.rows)) {
            return;
        }
        self.rows.insert((place, hash), make());
        self.places.insert(hash, place);
        if self.rows.len() > self.size
            && let Some(((_, hash), _)) = self.rows.pop_last()
        {
            self.places.remove(&hash);
        }
    }

    /// Adds what another kept of other rows.
    pub(super) fn merge(&mut self, other: &Self) {
        for ((place, hash), row) in &other.rows {
            self.offer(*place, *hash, || row.clone());
        }
    }

    /// Changes every row.
    pub(super) fn change(&mut self, change: impl Fn(&mut KeptRow)) {
        self.rows.values_mut().for_each(change);
    }

    /// Takes rows of another width from now on; those that are kept have no new categories.
    pub(super) fn set_width(&mut self, width: Width) {
        self.width = width;
    }

    /// The rows in order.
    pub(super) fn rows(&self) -> impl Iterator<Item = &KeptRow> {
        self.rows.values()
    }

    /// The rows in order as points.
    pub(super) fn points(&self) -> Points {
        let mut points = Points::new(self.width);
        for row in self.rows() {
            points.dense.extend_from_slice(&row.dense);
            points.codes.extend_from_slice(&row.codes);
            points.scale.push(row.scale);
        }
        points
    }

    /// Appends them to a record: size, then place, hash, cluster, weight and
    /// copies of each, then the points.
    pub(super) fn write(&self, writer: &mut Writer) {
        writer.integers(&[self.size as u64, self.rows.len() as u64]);
        for ((place, hash), row) in &self.rows {
            writer.integers(&[*place, *hash, u64::from(row.cluster)]);
            writer.numbers(&[row.weight, row.copies]);
        }
        self.points().write(writer);
    }

    /// Reads rows of this width from a record.
    pub(super) fn read(reader: &mut Reader<'_>, width: Width) -> Result<Self> {
        let (size, n) = (reader.dimension()?, reader.dimension()?);
        let mut heads = vec![];
        for _ in 0..n {
            let (place, hash) = (reader.integer()?, reader.integer()?);
            let cluster = reader.dimension()? as u32;
            heads.push((place, hash, cluster, reader.number()?, reader.number()?));
        }
        let points = Points::read(reader, width)?;
        if points.len() != n {
            return exec_err!("kept rows are damaged: {} of {n} were found", points.len());
        }
        let mut kept = Self::new(width, size);
        for (i, (place, hash, cluster, weight, copies)) in heads.into_iter().enumerate() {
            kept.offer(place, hash, || KeptRow {
                dense: points.dense_of(i).to_vec(),
                codes: points.codes_of(i).to_vec(),
                scale: points.scale[i],
                weight,
                copies,
                cluster,
            });
        }
        Ok(kept)
    }
}

/// A copy of a row for [`Kept::offer`].
pub(super) fn copy((dense, codes): (&[f32], &[u32]), scale: f32, weight: f64) -> KeptRow {
    let mut point = Points::default();
    point.push(dense, codes, scale);
    KeptRow { dense: point.dense, codes: point.codes, scale, weight, copies: 1.0, cluster: 0 }
}
