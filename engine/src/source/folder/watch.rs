//! Which file of a watched folder comes next, and which are done.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Instant;

use datafusion::common::{Result, exec_datafusion_err};
use object_store::{Error, ObjectMeta};

use super::super::{Cursor, Lag};
use super::Folder;
use super::manifest::{Entry, FolderCursor, Manifest, key, stamp};

/// The Parquet files of a folder by name.
pub(super) type Listing = BTreeMap<String, ObjectMeta>;

/// Lists a folder. One that does not exist has no files yet.
pub(super) async fn list(folder: &Folder) -> Result<Listing> {
    let found = match folder.store.list_with_delimiter(Some(folder.url.prefix())).await {
        Ok(found) => found.objects,
        Err(Error::NotFound { .. }) => vec![],
        Err(error) => {
            return Err(exec_datafusion_err!("{} cannot be listed: {error}", folder.url));
        }
    };
    let glob = folder.url.get_glob();
    let files = found.into_iter().filter_map(|meta| {
        let name = meta.location.filename()?.to_owned();
        let is_hidden = name.starts_with(['.', '_']);
        let is_parquet = name.ends_with(".parquet");
        let is_meant = glob.as_ref().is_none_or(|glob| glob.matches(&name));
        (is_parquet && is_meant && !is_hidden).then_some((name, meta))
    });
    Ok(files.collect())
}

/// A file that is next.
pub(super) struct Candidate {
    pub(super) name: String,
    pub(super) meta: ObjectMeta,
    /// The row at which reading begins.
    pub(super) skip: u64,
    /// Rows from there on that were consumed by an earlier run.
    pub(super) again: u64,
}

/// What is known of a file that is not to be read.
struct Known {
    stamp: u32,
    /// Whether rows of it were returned. If so, it is never read again; if not, it was rejected,
    /// and is read when it has changed.
    is_read: bool,
}

/// The file in which reading resumes, or one between there and the last row that the earlier run
/// consumed.
struct Resume {
    name: String,
    /// Its bytes, if the cursor has them.
    size: Option<u64>,
    skip: u64,
    again: u64,
    /// Whether all its rows were read.
    is_whole: bool,
}

/// The files of a folder, and which of them are done.
pub(super) struct Watch {
    folder: Arc<Folder>,
    /// Files that are not begun.
    unread: Listing,
    /// When the folder was listed. Only compared with the same clock, which is monotonic.
    listed: Option<Instant>,
    /// Files that are done, for cursors.
    done: Manifest,
    /// The files of `done` and those that were rejected in this run, by the key of the name.
    known: HashMap<u64, Known>,
    /// The file that is being read.
    open: Option<Entry>,
    /// Files to begin with, in this order.
    resume: VecDeque<Resume>,
    /// The name up to which all files are done, from the cursor of a program version that tracked
    /// names alone.
    high_water: Option<String>,
    /// Rows that should be read again but cannot be. The reader reports them with the next rows.
    pub(super) lost: Vec<(Cursor, u64)>,
    /// An incomplete file, and since when it has not changed.
    waiting: Option<(ObjectMeta, Instant)>,
}

impl Watch {
    /// Watches all files, or those that a cursor leaves.
    pub(super) fn new(folder: Arc<Folder>, from: Option<&Cursor>) -> Self {
        let mut watch = Self {
            folder,
            unread: Listing::new(),
            listed: None,
            done: Manifest::default(),
            known: HashMap::new(),
            open: None,
            resume: VecDeque::new(),
            high_water: None,
            lost: vec![],
            waiting: None,
        };
        let Some(from) = from else { return watch };
        if !from.place.is_empty() {
            let of = from.folder.as_ref();
            watch.resume.push_back(Resume {
                name: from.place.clone(),
                size: of.map(|folder| folder.size),
                skip: from.row,
                again: 0,
                is_whole: of.is_some_and(|folder| from.row >= folder.rows),
            });
        }
        match &from.folder {
            Some(folder) => watch.go_on(folder),
            None => watch.high_water = Some(from.place.clone()).filter(|name| !name.is_empty()),
        }
        watch
    }

    fn go_on(&mut self, from: &FolderCursor) {
        self.done = from.done.branch();
        let known = |entry: Entry| Known { stamp: entry.stamp, is_read: entry.is_read };
        self.known = self.done.entries().into_iter().map(|e| (e.key, known(e))).collect();
        for file in &from.again {
            match self.resume.back_mut() {
                Some(last) if last.name == file.name => last.again += file.rows,
                _ => self.resume.push_back(Resume {
                    name: file.name.clone(),
                    size: Some(file.size),
                    skip: 0,
                    again: file.rows,
                    is_whole: false,
                }),
            }
        }
    }

    /// The file to read next. A listing is reused for as long as `poll`, so that many files do not
    /// cost a listing each.
    pub(super) async fn candidate(&mut self) -> Result<Option<Candidate>> {
        let poll = self.folder.options.poll;
        let is_fresh = self.listed.is_some_and(|listed| listed.elapsed() < poll);
        if !is_fresh || self.unread.is_empty() {
            self.refresh().await?;
        }
        while let Some(next) = self.resume.front() {
            match self.unread.get(&next.name) {
                Some(meta) if next.size.is_none_or(|size| size == meta.size) => {
                    return Ok(Some(Candidate {
                        name: next.name.clone(),
                        meta: meta.clone(),
                        skip: next.skip,
                        again: next.again,
                    }));
                }
                found => {
                    let found = found.cloned();
                    self.lose(found.as_ref());
                }
            }
        }
        let first = self.unread.first_key_value();
        Ok(first.map(|(name, meta)| Candidate {
            name: name.clone(),
            meta: meta.clone(),
            skip: 0,
            again: 0,
        }))
    }

    async fn refresh(&mut self) -> Result<()> {
        let listing = list(&self.folder).await?;
        let report = Arc::clone(&self.folder.report);
        self.listed = Some(Instant::now());
        if let Some(last) = self.high_water.take() {
            self.take_for_read(&listing, &last);
        }
        let mut unread = Listing::new();
        for (name, meta) in listing {
            let stamp = stamp(&meta);
            match self.known.get_mut(&key(&name)) {
                Some(known) if known.stamp == stamp => {}
                Some(known) if known.is_read => {
                    known.stamp = stamp;
                    report.file_skipped(&name, CHANGED);
                }
                _ => {
                    unread.insert(name, meta);
                }
            }
        }
        for name in self.unread.keys().filter(|name| !unread.contains_key(*name)) {
            let is_resumed = self.resume.iter().any(|file| file.name == *name);
            if !is_resumed && !self.known.contains_key(&key(name)) {
                report.file_skipped(name, VANISHED);
            }
        }
        self.unread = unread;
        report.set_lag(Lag::Files(self.unread.len() as u64));
        Ok(())
    }

    /// Resumes from a program version that tracked names alone: files before the last one count as
    /// read.
    fn take_for_read(&mut self, listing: &Listing, last: &str) {
        let before = listing.range::<str, _>((Bound::Unbounded, Bound::Excluded(last)));
        let mut count = 0;
        for (name, meta) in before {
            self.mark(Entry { key: key(name), stamp: stamp(meta), is_read: true });
            count += 1;
        }
        if count > 0 {
            self.folder.report.warn(format!(
                "where reading of {} stopped was written by a version that went by the order of names: \
                 those that sort before {last}, {count} of them, count as read",
                self.folder.url
            ));
        }
    }

    /// Marks a file as done.
    fn mark(&mut self, entry: Entry) {
        self.known.insert(entry.key, Known { stamp: entry.stamp, is_read: entry.is_read });
        self.done.push(entry);
    }

    /// Marks the open file as done.
    fn close(&mut self) {
        if let Some(entry) = self.open.take() {
            self.mark(entry);
        }
    }

    /// Marks a file as open; returns the files that were done before it, for its cursors.
    pub(super) fn begun(&mut self, file: &Candidate) -> Manifest {
        self.close();
        let entry = Entry { key: key(&file.name), stamp: stamp(&file.meta), is_read: true };
        self.known.insert(entry.key, Known { stamp: entry.stamp, is_read: true });
        self.open = Some(entry);
        self.remove(&file.name);
        self.done.clone()
    }

    /// Removes a file from the files to read.
    fn remove(&mut self, name: &str) {
        self.resume.pop_front_if(|next| next.name == name);
        self.unread.remove(name);
        self.waiting = None;
        self.folder.report.set_lag(Lag::Files(self.unread.len() as u64));
    }

    /// Handles a file that vanished before it was read.
    pub(super) fn vanished(&mut self, name: &str) {
        if self.is_resumed(name) {
            return self.lose(None);
        }
        self.remove(name);
        self.folder.report.file_skipped(name, VANISHED);
    }

    /// Rejects a file that cannot be read, and says why: it is skipped until it changes.
    pub(super) fn reject(&mut self, file: &Candidate, why: &str) {
        if self.is_resumed(&file.name) {
            return self.lose(Some(&file.meta));
        }
        self.remove(&file.name);
        let known = Known { stamp: stamp(&file.meta), is_read: false };
        self.known.insert(key(&file.name), known);
        self.folder.report.file_skipped(&file.name, &format!("is skipped: {why}"));
    }

    fn is_resumed(&self, name: &str) -> bool {
        self.resume.front().is_some_and(|next| next.name == name)
    }

    /// Handles a file to resume that is gone, or that another file has replaced.
    fn lose(&mut self, found: Option<&ObjectMeta>) {
        let Some(Resume { name, size, skip, again, is_whole }) = self.resume.pop_front() else {
            return;
        };
        let report = Arc::clone(&self.folder.report);
        let row = skip + again;
        let is_done = is_whole && again == 0;
        match found {
            Some(_) if is_done => report.file_skipped(&name, CHANGED),
            None if is_done => {}
            Some(_) => report.file_skipped(
                &name,
                &format!(
                    "is not what it was when reading stopped after row {row} of it: the rest of it \
                     is not read"
                ),
            ),
            None => report.warn(format!(
                "file {name} is gone, in which reading stopped after row {row}; it goes on with the \
                 files after it"
            )),
        }
        if again > 0 {
            let folder = FolderCursor {
                size: size.unwrap_or(0),
                rows: row,
                done: self.done.clone(),
                again: vec![],
            };
            self.lost.push((Cursor { folder: Some(folder), ..Cursor::new(&name, skip) }, again));
        }
        // Its rows were consumed, so a file of that name that appears later is not read again.
        self.close();
        self.mark(Entry { key: key(&name), stamp: found.map_or(0, stamp), is_read: true });
        self.remove(&name);
    }

    /// Whether an incomplete file has been unchanged for so long that it is given up. Only changes
    /// count, not what its timestamps say.
    pub(super) fn give_up(&mut self, file: &Candidate, reason: &str, is_torn: bool) -> bool {
        let since = match &self.waiting {
            Some((known, since)) if *known == file.meta => *since,
            _ => {
                let now = Instant::now();
                self.waiting = Some((file.meta.clone(), now));
                now
            }
        };
        let settle = self.folder.options.settle;
        if since.elapsed() < settle {
            return false;
        }
        let is_resumed = self.is_resumed(&file.name);
        let why = match is_torn {
            true => {
                format!("it is no whole Parquet file and has not changed for {settle:?} ({reason})")
            }
            false => reason.to_owned(),
        };
        self.reject(file, &why);
        if is_torn && !is_resumed {
            // A later run need not wait for it again.
            self.close();
            self.mark(Entry { key: key(&file.name), stamp: stamp(&file.meta), is_read: false });
        }
        true
    }
}

const VANISHED: &str = "vanished before it was read and is skipped";
const CHANGED: &str =
    "has changed since it was read and is not read again; rows that are new belong into a new file";
