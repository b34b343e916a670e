//! Maps the row ordinals of a training to positions in its source.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Cursor, FileRows, FolderCursor};

/// Numbers the rows of all partitions in the order in which they arrive, from a first ordinal on,
/// and remembers their positions.
///
/// The reader of a partition asks for the ordinals of its next rows ([`Ledger::number`]). The
/// consumer of the rows asks for the cursors at which the partitions resume once all rows below an
/// ordinal are consumed ([`Ledger::cursors_at`]). Rows with consecutive ordinals and positions
/// share one mark. So one partition costs one mark per file, and several partitions cost one per
/// batch until [`Ledger::forget_before`].
#[derive(Debug)]
pub struct Ledger {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// The ordinal of the next row.
    next: u64,
    /// In ascending order of ordinals, without gaps.
    marks: VecDeque<Mark>,
    /// The cursor of each partition before the first mark.
    floor: Vec<Cursor>,
}

/// Consecutive rows of one partition.
#[derive(Debug)]
struct Mark {
    ordinal: u64,
    rows: u64,
    partition: usize,
    first: Cursor,
}

impl Mark {
    fn end(&self) -> u64 {
        self.ordinal + self.rows
    }
}

impl Ledger {
    /// A ledger whose first row is `first`, for partitions that begin at `cursors`.
    pub fn new(first: u64, cursors: Vec<Cursor>) -> Self {
        Self { inner: Mutex::new(Inner { next: first, marks: VecDeque::new(), floor: cursors }) }
    }

    /// The ordinal of the next row that arrives.
    pub fn next(&self) -> u64 {
        self.inner().next
    }

    /// Assigns ordinals to `rows` rows of a partition, the first of which is at the cursor `first`.
    /// Returns the first ordinal.
    pub fn number(&self, partition: usize, first: Cursor, rows: u64) -> u64 {
        let mut inner = self.inner();
        let ordinal = inner.next;
        inner.next += rows;
        if inner.floor.len() <= partition {
            inner.floor.resize(partition + 1, Cursor::default());
        }
        if let Some(last) = inner.marks.back_mut()
            && last.partition == partition
            && last.first.place == first.place
            && last.first.row + last.rows == first.row
        {
            last.rows += rows;
        } else {
            inner.marks.push_back(Mark { ordinal, rows, partition, first });
        }
        ordinal
    }

    /// The cursor at which each partition resumes once all rows below `ordinal` are consumed. For
    /// forgotten ordinals it is the cursor of the oldest known row.
    pub fn cursors_at(&self, ordinal: u64) -> Vec<Cursor> {
        let inner = self.inner();
        let mut cursors = inner.floor.clone();
        for mark in inner.marks.iter().take_while(|mark| mark.ordinal < ordinal) {
            cursors[mark.partition] = mark.first.after(mark.rows.min(ordinal - mark.ordinal));
        }
        cursors
    }

    /// Like [`Ledger::cursors_at`], but cursors of folders also list the files with rows from there
    /// to `until`. A reader that resumes there, so that windows can look back, must read these
    /// files again in their order.
    pub fn cursors_between(&self, ordinal: u64, until: u64) -> Vec<Cursor> {
        let mut cursors = self.cursors_at(ordinal);
        let inner = self.inner();
        if until <= ordinal || inner.next < until {
            // An earlier run consumed these rows, and this one has not read all of them again: its
            // first cursors still list them.
            return cursors;
        }
        cursors.iter_mut().filter_map(|c| c.folder.as_mut()).for_each(|f| f.again.clear());
        for mark in inner.marks.iter().filter(|m| m.ordinal < until && m.end() > ordinal) {
            let rows = mark.end().min(until) - mark.ordinal.max(ordinal);
            let Some(of) = &mark.first.folder else { continue };
            // A cursor at the start of the input has no files yet.
            let start = || FolderCursor { done: of.done.clone(), ..FolderCursor::default() };
            let folder = cursors[mark.partition].folder.get_or_insert_with(start);
            folder.again.push(FileRows { name: mark.first.place.clone(), size: of.size, rows });
        }
        cursors
    }

    /// Forgets the positions of rows below `ordinal`, which are not needed again.
    pub fn forget_before(&self, ordinal: u64) {
        let mut inner = self.inner();
        while let Some(mark) = inner.marks.front_mut()
            && mark.ordinal < ordinal
        {
            let (partition, gone) = (mark.partition, mark.rows.min(ordinal - mark.ordinal));
            let floor = mark.first.after(gone);
            if mark.end() <= ordinal {
                inner.marks.pop_front();
            } else {
                mark.ordinal += gone;
                mark.rows -= gone;
                mark.first = floor.clone();
            }
            inner.floor[partition] = floor;
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(place: &str, row: u64) -> Cursor {
        Cursor::new(place, row)
    }

    #[test]
    fn cursors_follow_the_ordinals() {
        let ledger = Ledger::new(100, vec![at("a", 7)]);
        assert_eq!(ledger.cursors_at(100), [at("a", 7)]);
        assert_eq!(ledger.number(0, at("a", 7), 10), 100);
        assert_eq!(ledger.number(0, at("a", 17), 3), 110);
        assert_eq!(ledger.number(0, at("b", 0), 5), 113);
        assert_eq!(ledger.next(), 118);
        for (ordinal, cursor) in [
            (0, at("a", 7)),
            (100, at("a", 7)),
            (101, at("a", 8)),
            (112, at("a", 19)),
            (113, at("a", 20)),
            (114, at("b", 1)),
            (118, at("b", 5)),
            (999, at("b", 5)),
        ] {
            assert_eq!(ledger.cursors_at(ordinal), [cursor], "{ordinal}");
        }
    }

    #[test]
    fn rows_that_follow_one_another_are_one_mark() {
        let ledger = Ledger::new(0, vec![Cursor::default()]);
        for i in 0..1000 {
            ledger.number(0, at("", 10 * i), 10);
        }
        assert_eq!(ledger.inner().marks.len(), 1);
        assert_eq!(ledger.cursors_at(1234), [at("", 1234)]);
    }

    #[test]
    fn partitions_have_cursors_of_their_own() {
        let ledger = Ledger::new(0, vec![Cursor::default(); 2]);
        ledger.number(0, at("x", 0), 2);
        ledger.number(1, at("y", 50), 2);
        ledger.number(0, at("x", 2), 2);
        assert_eq!(ledger.cursors_at(1), [at("x", 1), at("", 0)]);
        assert_eq!(ledger.cursors_at(3), [at("x", 2), at("y", 51)]);
        assert_eq!(ledger.cursors_at(6), [at("x", 4), at("y", 52)]);
    }

    /// The cursor lists the files between the row where reading resumes and the last consumed row.
    #[test]
    fn cursors_name_the_files_that_are_read_again() {
        let file = |name: &str, row, size| Cursor {
            folder: Some(FolderCursor { size, rows: 10, ..FolderCursor::default() }),
            ..at(name, row)
        };
        let names = |cursors: &[Cursor]| -> Vec<(String, u64, u64)> {
            let again = &cursors[0].folder.as_ref().unwrap().again;
            again.iter().map(|file| (file.name.clone(), file.size, file.rows)).collect()
        };
        let named = |name: &str, size, rows| (name.to_owned(), size, rows);
        let ledger = Ledger::new(0, vec![Cursor::default()]);
        ledger.number(0, file("b", 0, 7), 10);
        ledger.number(0, file("a", 0, 8), 10);
        ledger.number(0, file("c", 0, 9), 10);
        assert_eq!(ledger.cursors_between(25, 25), ledger.cursors_at(25));
        let cursors = ledger.cursors_between(8, 23);
        assert_eq!((cursors[0].place.as_str(), cursors[0].row), ("b", 8));
        assert_eq!(names(&cursors), [named("b", 7, 2), named("a", 8, 10), named("c", 9, 3)]);
        // From the start, where no file is named yet.
        let cursors = ledger.cursors_between(0, 12);
        assert_eq!((cursors[0].place.as_str(), cursors[0].row), ("", 0));
        assert_eq!(names(&cursors), [named("b", 7, 10), named("a", 8, 2)]);
        // A run that resumes there keeps the names until it has come as far again.
        let again = Ledger::new(8, ledger.cursors_between(8, 23));
        again.number(0, file("b", 8, 7), 2);
        assert_eq!(again.cursors_between(8, 23), ledger.cursors_between(8, 23));
        again.number(0, file("a", 0, 8), 10);
        again.number(0, file("c", 0, 9), 10);
        assert_eq!(names(&again.cursors_between(20, 24)), [named("c", 9, 4)]);
    }

    #[test]
    fn forgetting_bounds_the_size_and_changes_no_answer() {
        let ledger = Ledger::new(0, vec![Cursor::default(); 2]);
        for i in 0..100 {
            ledger.number((i % 2) as usize, at("p", i / 2 * 10), 10);
        }
        let before: Vec<_> = (500..=1000).map(|ordinal| ledger.cursors_at(ordinal)).collect();
        assert_eq!(ledger.inner().marks.len(), 100);
        ledger.forget_before(505);
        assert_eq!(ledger.inner().marks.len(), 50);
        let after: Vec<_> = (505..=1000).map(|ordinal| ledger.cursors_at(ordinal)).collect();
        assert_eq!(after, before[5..]);
        assert_eq!(ledger.cursors_at(3), ledger.cursors_at(505), "forgotten");
        ledger.forget_before(2000);
        assert!(ledger.inner().marks.is_empty());
        assert_eq!(ledger.cursors_at(1000), *before.last().unwrap());
        assert_eq!(ledger.next(), 1000);
    }
}
