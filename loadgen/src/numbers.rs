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

/// A number with one decimal place, or none if that is 0, grouped.
pub fn fraction(value: f64) -> String {
    let tenths = (value.abs() * 10.0).round() as u64;
    let sign = if value < 0.0 && tenths > 0 { "-" } else { "" };
    let rest = if tenths.is_multiple_of(10) { String::new() } else { format!(".{}", tenths % 10) };
    format!("{sign}{}{rest}", grouped(tenths / 10))
}

/// A number in millions with four significant digits, for one of a million or more.
pub fn millions(value: f64) -> String {
    let millions = value / 1e6;
    match millions {
        ..9.9995 => format!("{millions:.3} M"),
        ..99.995 => format!("{millions:.2} M"),
        ..999.95 => format!("{millions:.1} M"),
        _ => format!("{} M", grouped(millions.round() as u64)),
    }
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
        for (value, text) in [(0.04, "0"), (-0.04, "0"), (12.0, "12"), (1_234.96, "1,235"), (-98_765.43, "-98,765.4")] {
            assert_eq!(fraction(value), text);
        }
        for (value, text) in [
            (1e6, "1.000 M"),
            (3_456_789.0, "3.457 M"),
            (12_344_999.0, "12.34 M"),
            (9.9e8, "990.0 M"),
            (2e9, "2,000 M"),
        ] {
            assert_eq!(millions(value), text);
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
