//! A request to stop, which rounds check.

use std::error::Error;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use datafusion_common::{DataFusionError, Result};

/// A request to stop at the next mini-batch.
#[derive(Debug, Default)]
pub struct Interrupt(AtomicBool);

/// The error of a training that stopped because it was asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the training was interrupted")
    }
}

impl Error for Interrupted {}

impl Interrupted {
    /// As an error of DataFusion.
    pub fn error() -> DataFusionError {
        DataFusionError::External(Box::new(Self))
    }

    /// Whether an error is this one, in whatever errors it is wrapped.
    pub fn is(error: &DataFusionError) -> bool {
        let mut next: Option<&(dyn Error + 'static)> = Some(error);
        while let Some(error) = next {
            if error.is::<Self>() {
                return true;
            }
            next = error.source();
        }
        false
    }
}

impl Interrupt {
    /// Asks for the stop.
    pub fn request(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Clears the request.
    pub fn clear(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// Returns an error if a stop was requested.
    ///
    /// # Errors
    /// [`Interrupted`].
    pub fn check(&self) -> Result<()> {
        match self.0.load(Ordering::Relaxed) {
            true => Err(Interrupted::error()),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::error::ArrowError;

    use super::*;

    #[test]
    fn an_interrupt_is_known_whatever_it_is_wrapped_in() {
        let interrupt = Interrupt::default();
        interrupt.check().unwrap();
        interrupt.request();
        let error = interrupt.check().unwrap_err();
        assert!(Interrupted::is(&error));
        let error = DataFusionError::Shared(Arc::new(error)).context("while a round ran");
        assert!(Interrupted::is(&error));
        let error = ArrowError::ExternalError(Box::new(error));
        assert!(Interrupted::is(&DataFusionError::from(error)));
        let other = DataFusionError::Execution("the training was interrupted".to_owned());
        assert!(!Interrupted::is(&other));
        interrupt.clear();
        interrupt.check().unwrap();
    }
}
