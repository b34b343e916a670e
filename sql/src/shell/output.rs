//! Where bytes go: the only writers of the shell.

use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A shared writer that remembers how it failed.
///
/// Arrow's writers turn an [`io::Error`] into text, so the kind of the first failure is kept here:
/// a reader that has closed the pipe (`| head -1`) is no error, a full disk is one.
#[derive(Clone)]
pub struct Output(Arc<Mutex<Target>>);

struct Target {
    writer: Box<dyn Write + Send>,
    failure: Option<(ErrorKind, String)>,
}

impl Output {
    /// Standard output, in blocks of 64 KiB.
    pub fn stdout() -> Self {
        Self::new(BufWriter::with_capacity(64 * 1024, io::stdout()))
    }

    /// Standard error, line by line.
    pub fn stderr() -> Self {
        Self::new(io::stderr())
    }

    /// A new file, or an existing one emptied.
    pub fn file(path: &Path) -> io::Result<Self> {
        Ok(Self::new(BufWriter::with_capacity(64 * 1024, File::create(path)?)))
    }

    /// Any writer.
    pub fn new(writer: impl Write + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(Target { writer: Box::new(writer), failure: None })))
    }

    /// Writes one line; a failure is only remembered.
    pub fn line(&mut self, text: &str) {
        // One call, so that lines of several threads do not mix.
        let _ = self.write_all(format!("{text}\n").as_bytes());
        let _ = self.flush();
    }

    /// Whether the reader of this output has closed the pipe.
    pub fn is_broken_pipe(&self) -> bool {
        self.failure().is_some_and(|(kind, _)| kind == ErrorKind::BrokenPipe)
    }

    /// The first failure, in words.
    pub fn failure(&self) -> Option<(ErrorKind, String)> {
        self.target().failure.clone()
    }

    fn target(&self) -> MutexGuard<'_, Target> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn attempt<T>(
        &self,
        action: impl FnOnce(&mut (dyn Write + Send)) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut target = self.target();
        if let Some((kind, text)) = &target.failure {
            return Err(io::Error::new(*kind, text.clone()));
        }
        let result = action(target.writer.as_mut());
        if let Err(error) = &result {
            target.failure = Some((error.kind(), error.to_string()));
        }
        result
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes).map(|()| bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        // `write_all` repeats what a signal cut short.
        self.attempt(|writer| writer.write_all(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.attempt(|writer| writer.flush())
    }
}

#[cfg(test)]
pub(crate) mod memory {
    //! An output that tests can read.

    use super::*;

    #[derive(Clone, Default)]
    pub(crate) struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Memory {
        pub(crate) fn output(&self) -> Output {
            Output::new(self.clone())
        }

        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A writer that takes some bytes and then fails.
    pub(crate) struct Failing(pub(crate) usize, pub(crate) ErrorKind);

    impl Write for Failing {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if bytes.len() > self.0 {
                return Err(io::Error::from(self.1));
            }
            self.0 -= bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::memory::{Failing, Memory};
    use super::*;

    #[test]
    fn the_first_failure_is_remembered_by_every_clone() {
        let output = Output::new(Failing(3, ErrorKind::BrokenPipe));
        let mut clone = output.clone();
        assert!(clone.write_all(b"abc").is_ok());
        assert!(!output.is_broken_pipe());
        assert!(clone.write_all(b"d").is_err());
        assert!(output.is_broken_pipe());
        assert!(clone.flush().is_err());
    }

    #[test]
    fn a_full_disk_is_not_a_broken_pipe() {
        let mut output = Output::new(Failing(0, ErrorKind::StorageFull));
        assert!(output.write_all(b"d").is_err());
        assert!(!output.is_broken_pipe());
        assert_eq!(output.failure().unwrap().0, ErrorKind::StorageFull);
    }

    #[test]
    fn lines_end_with_a_newline() {
        let memory = Memory::default();
        memory.output().line("one");
        assert_eq!(memory.text(), "one\n");
    }
}
