//! Numbers as people read them.

/// Microseconds in the unit that reads best, with three significant digits.
pub fn duration(micros: f64) -> String {
    let (value, unit) = match micros {
        ..1_000.0 => (micros, "us"),
        ..1_000_000.0 => (micros / 1_000.0, "ms"),
        _ => (micros / 1_000_000.0, "s"),
    };
    three_digits(value, unit)
}

/// Bytes in the decimal unit that reads best, with three significant digits.
pub fn size(bytes: f64) -> String {
    let (value, unit) = match bytes.abs() {
        ..1e3 => return format!("{bytes:.0} B"),
        ..1e6 => (bytes / 1e3, "KB"),
        ..1e9 => (bytes / 1e6, "MB"),
        _ => (bytes / 1e9, "GB"),
    };
    three_digits(value, unit)
}

fn three_digits(value: f64, unit: &str) -> String {
    let digits = match value.abs() {
        ..9.995 => 2,
        ..99.95 => 1,
        _ => 0,
    };
    format!("{value:.digits$} {unit}")
}

/// A rate: whole from 100 on, grouped.
pub fn decimal(value: f64) -> String {
    if value >= 100.0 { grouped(value.round() as u64) } else { format!("{value:.1}") }
}

/// Digits in groups of three.
pub fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count and what is counted: `1 thread`, `2,000 threads`.
pub fn many(count: usize, noun: &str) -> String {
    format!("{} {noun}{}", grouped(count as u64), if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        for (value, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(value), text);
        }
        for (micros, text) in
            [(0.5, "0.50 us"), (12.34, "12.3 us"), (999.4, "999 us"), (1_500.0, "1.50 ms"), (2_500_000.0, "2.50 s")]
        {
            assert_eq!(duration(micros), text);
        }
        for (bytes, text) in
            [(0.0, "0 B"), (999.0, "999 B"), (1_536.0, "1.54 KB"), (-2e6, "-2.00 MB"), (1.25e10, "12.5 GB")]
        {
            assert_eq!(size(bytes), text);
        }
    }
}
