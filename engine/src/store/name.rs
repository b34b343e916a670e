//! Names of models, which are names of folders too.

use datafusion::common::{Result, plan_err};

/// Maximum number of characters.
const MAX_LENGTH: usize = 128;

/// Refuses what cannot be the name of a model.
///
/// # Errors
/// When it is empty, longer than 128 characters, or has anything but letters, digits, `_` and `-`.
pub fn validate_name(name: &str) -> Result<()> {
    let length = name.chars().count();
    if length == 0 {
        return plan_err!("a model needs a name");
    }
    if length > MAX_LENGTH {
        return plan_err!(
            "the model name has {length} characters, but at most {MAX_LENGTH} are allowed"
        );
    }
    match name.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))) {
        Some(c) => plan_err!(
            "the model name \"{name}\" has the character {c:?}, but only letters, digits, _ and - \
             are allowed"
        ),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_the_warehouse() {
        for name in ["churn", "A-1_b", &"x".repeat(128)] {
            assert!(validate_name(name).is_ok(), "{name}");
        }
        for name in ["", "../x", "a b", "a/b", "a\"b", "é", "a.b", &"x".repeat(300)] {
            assert!(validate_name(name).is_err(), "{name}");
        }
        let error = validate_name("../x").unwrap_err().to_string();
        assert!(error.contains("\"../x\" has the character '.'"), "{error}");
    }
}
