//! Which file of a watched folder comes next.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Instant;

use datafusion::common::{Result, exec_datafusion_err};
use object_store::{Error, ObjectMeta};

use super::super::{Cursor, Lag};
use super::Folder;

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

/// What is next.
pub(super) enum Candidate {
    /// A file that is to be read from its row `skip` on.
    File { name: String, meta: ObjectMeta, skip: u64 },
    /// Nothing for now.
    None,
}

/// The files of a folder, and how far they are read.
pub(super) struct Watch {
    folder: Arc<Folder>,
    listing: Listing,
    /// When the folder was listed. Only ever compared with the same clock, which never runs back.
    listed: Option<Instant>,
    /// The names that are still to be read lie beyond.
    beyond: Bound<String>,
    /// Where to go on, until that file is open.
    from: Option<Cursor>,
    /// A file that is not whole, and since when it is as it is.
    waiting: Option<(ObjectMeta, Instant)>,
}

impl Watch {
    /// All files, or those from a cursor on.
    pub(super) fn new(folder: Arc<Folder>, from: Option<&Cursor>) -> Self {
        Self {
            folder,
            listing: Listing::new(),
            listed: None,
            beyond: from.map_or(Bound::Unbounded, |from| Bound::Included(from.place.clone())),
            from: from.cloned(),
            waiting: None,
        }
    }

    /// The first file that is not read. A listing is used for as long as `poll`, so that a long
    /// row of files does not cost a listing each.
    pub(super) async fn candidate(&mut self) -> Result<Candidate> {
        let poll = self.folder.options.poll;
        let is_fresh = self.listed.is_some_and(|listed| listed.elapsed() < poll);
        if !is_fresh || self.first().is_none() {
            self.refresh().await?;
        }
        Ok(self.first().unwrap_or(Candidate::None))
    }

    fn first(&self) -> Option<Candidate> {
        let (name, meta) = self.unread().next()?;
        let from = self.from.as_ref().filter(|from| from.place == *name);
        let skip = from.map_or(0, |from| from.row);
        Some(Candidate::File { name: name.clone(), meta: meta.clone(), skip })
    }

    fn unread(&self) -> impl Iterator<Item = (&String, &ObjectMeta)> {
        self.listing.range((self.beyond.clone(), Bound::Unbounded))
    }

    async fn refresh(&mut self) -> Result<()> {
        let listing = list(&self.folder).await?;
        let is_first = self.listed.is_none();
        let before = std::mem::replace(&mut self.listing, listing);
        self.listed = Some(Instant::now());
        let report = Arc::clone(&self.folder.report);
        report.set_lag(Lag::Files(self.unread().count() as u64));
        if is_first {
            if let Some(from) = &self.from
                && !self.listing.contains_key(&from.place)
            {
                report.warn(format!(
                    "file {} is gone, in which reading stopped after row {}; it goes on with the \
                     files after it",
                    from.place, from.row
                ));
            }
            return Ok(());
        }
        for name in before.keys().filter(|name| !self.listing.contains_key(*name)) {
            if self.is_unread(name) {
                report.file_skipped(name, VANISHED);
            }
        }
        for name in self.listing.keys().filter(|name| !before.contains_key(*name)) {
            if !self.is_unread(name) {
                report.file_skipped(name, LATE);
            }
        }
        Ok(())
    }

    fn is_unread(&self, name: &str) -> bool {
        match &self.beyond {
            Bound::Included(first) => name >= first.as_str(),
            Bound::Excluded(last) => name > last.as_str(),
            Bound::Unbounded => true,
        }
    }

    /// A file is open: those up to it are done.
    pub(super) fn begun(&mut self, name: &str) {
        self.beyond = Bound::Excluded(name.to_owned());
        self.from = None;
        self.waiting = None;
        self.folder.report.set_lag(Lag::Files(self.unread().count() as u64));
    }

    /// A file is gone before it was read.
    pub(super) fn vanished(&mut self, name: &str) {
        self.listing.remove(name);
        self.folder.report.file_skipped(name, VANISHED);
    }

    /// A file is not whole: whether it has been as it is for so long that it is given up. Only
    /// whether it changes counts, not what its times say.
    pub(super) fn give_up(&mut self, name: &str, meta: &ObjectMeta, reason: &str) -> bool {
        let since = match &self.waiting {
            Some((known, since)) if known == meta => *since,
            _ => {
                let now = Instant::now();
                self.waiting = Some((meta.clone(), now));
                now
            }
        };
        let settle = self.folder.options.settle;
        if since.elapsed() < settle {
            return false;
        }
        self.begun(name);
        let why = format!(
            "is skipped: it is no whole Parquet file and has not changed for {settle:?} ({reason})"
        );
        self.folder.report.file_skipped(name, &why);
        true
    }
}

const VANISHED: &str = "vanished before it was read and is skipped";
const LATE: &str = "came late and is not read: its name sorts before files that are read already";
