//! Formats numbers for people.

/// `1234567` as `1,234,567`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(c);
    }
    text
}

/// `1 row`, `2 rows`.
pub fn rows(n: u64) -> String {
    format!("{} {}", count(n), if n == 1 { "row" } else { "rows" })
}

/// Bytes as `999 B`, `1.2 kB`, `34.5 MB`.
pub fn bytes(n: u64) -> String {
    let mut value = n as f64;
    if n < 1000 {
        return format!("{n} B");
    }
    for unit in ["kB", "MB", "GB"] {
        value /= 1000.0;
        if value < 999.95 {
            return format!("{value:.1} {unit}");
        }
    }
    format!("{:.1} TB", value / 1000.0)
}

/// A loss with four significant digits.
pub fn figure(x: f64) -> String {
    let size = x.abs();
    if size != 0.0 && !(1e-3..1e6).contains(&size) {
        format!("{x:.3e}")
    } else if size >= 100.0 {
        format!("{x:.2}")
    } else {
        format!("{x:.4}")
    }
}

/// Seconds as `0.8 s`, `12 s`, `3 min 05 s`, `2 h 07 min`.
pub fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "?".to_owned();
    }
    if seconds < 9.95 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_separators() {
        assert_eq!(
            [0, 12, 999, 1000, 12345, 1234567].map(count),
            ["0", "12", "999", "1,000", "12,345", "1,234,567"]
        );
        assert_eq!([0, 1, 2].map(rows), ["0 rows", "1 row", "2 rows"]);
    }

    #[test]
    fn bytes_choose_their_unit() {
        assert_eq!(
            [0, 999, 1000, 999_949, 999_950, 34_500_000, 5_000_000_000_000].map(bytes),
            ["0 B", "999 B", "1.0 kB", "999.9 kB", "1.0 MB", "34.5 MB", "5.0 TB"]
        );
    }

    #[test]
    fn figures_keep_four_digits() {
        assert_eq!(
            [0.0, 0.34567, -1.5, 123.456, 0.000012345, 4.2e9, f64::NAN].map(figure),
            ["0.0000", "0.3457", "-1.5000", "123.46", "1.234e-5", "4.200e9", "NaN"]
        );
    }

    #[test]
    fn durations_choose_their_unit() {
        assert_eq!(
            [0.04, 9.96, 59.4, 59.6, 185.0, 7620.0, f64::INFINITY].map(duration),
            ["0.0 s", "10 s", "59 s", "1 min 00 s", "3 min 05 s", "2 h 07 min", "?"]
        );
    }
}
