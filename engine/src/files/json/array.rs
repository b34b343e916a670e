//! Turns one array of objects into objects line by line.

use bytes::Bytes;
use datafusion::common::{Result, exec_err};

/// Scans the bytes of an array and puts line breaks where its commas are.
#[derive(Debug, Default)]
pub(super) struct ArrayLines {
    begun: bool,
    ended: bool,
    in_string: bool,
    escaped: bool,
    depth: usize,
}

impl ArrayLines {
    /// The objects of the next bytes.
    ///
    /// # Errors
    /// When there is text before or after the array.
    pub(super) fn lines(&mut self, bytes: &[u8]) -> Result<Bytes> {
        let mut lines = Vec::with_capacity(bytes.len());
        for byte in bytes.iter().copied() {
            if self.in_string {
                self.in_string = self.escaped || byte != b'"';
                self.escaped = !self.escaped && byte == b'\\';
                lines.push(byte);
                continue;
            }
            if !self.begun || self.ended {
                match byte {
                    b'[' if !self.begun => self.begun = true,
                    _ if byte.is_ascii_whitespace() || matches!(byte, 0xEF | 0xBB | 0xBF) => {}
                    _ => return exec_err!("something stands beside the array"),
                }
                continue;
            }
            match byte {
                b'"' => self.in_string = true,
                b'{' | b'[' => self.depth += 1,
                b']' if self.depth == 0 => {
                    self.ended = true;
                    lines.push(b'\n');
                    continue;
                }
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                b',' if self.depth == 0 => {
                    lines.push(b'\n');
                    continue;
                }
                _ => {}
            }
            lines.push(byte);
        }
        Ok(lines.into())
    }

    /// Whether the array came to its end.
    pub(super) fn is_over(&self) -> bool {
        self.ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_of_an_array_are_lines_however_bytes_arrive() {
        let text = "\n [ {\"a\": [1, 2], \"b\": \"},{\\\"\"},\n{\"a\": {}} ] \n";
        for step in [1, 3, 1000] {
            let mut array = ArrayLines::default();
            let mut lines = vec![];
            for bytes in text.as_bytes().chunks(step) {
                lines.extend_from_slice(&array.lines(bytes).unwrap());
            }
            assert!(array.is_over());
            let lines = String::from_utf8(lines).unwrap();
            let lines: Vec<_> = lines.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
            assert_eq!(lines, ["{\"a\": [1, 2], \"b\": \"},{\\\"\"}", "{\"a\": {}}"]);
        }
        let mut array = ArrayLines::default();
        assert!(array.lines(b"[{}] {}").is_err());
        assert!(!ArrayLines::default().is_over());
    }
}
