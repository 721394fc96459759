//! Numbers as people read them. Pure.

/// Bytes in binary units with at most one decimal.
#[must_use]
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut tenths = u128::from(count) * 10 / 1024;
    for unit in UNITS {
        if tenths < 10_240 || unit == "EiB" {
            return if tenths < 1000 {
                format!("{}.{} {unit}", tenths / 10, tenths % 10)
            } else {
                format!("{} {unit}", tenths / 10)
            };
        }
        tenths /= 1024;
    }
    String::new()
}

/// A length of time in its two largest units.
#[must_use]
pub fn age(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    match seconds {
        0 => format!("{milliseconds}ms"),
        1..60 => format!("{}.{}s", seconds, milliseconds % 1000 / 100),
        60..3600 => format!("{}m{}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d{}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// Time that is left, or `expired`.
#[must_use]
pub fn left(seconds: i64) -> String {
    match u64::try_from(seconds) {
        Ok(seconds) if seconds > 0 => age(seconds.saturating_mul(1000)),
        _ => "expired".to_owned(),
    }
}

/// Microseconds as milliseconds or seconds.
#[must_use]
pub fn micros(microseconds: u64) -> String {
    match microseconds {
        0..1000 => format!("{microseconds}us"),
        1000..1_000_000 => format!("{}.{}ms", microseconds / 1000, microseconds % 1000 / 100),
        _ => format!("{}.{}s", microseconds / 1_000_000, microseconds % 1_000_000 / 100_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_short() {
        let table = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (102_400, "100 KiB"),
            (1_048_575, "1023 KiB"),
            (1 << 30, "1.0 GiB"),
            (u64::MAX, "15.9 EiB"),
        ];
        for (count, text) in table {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn ages_have_two_units() {
        let table = [(5, "5ms"), (1500, "1.5s"), (61_000, "1m1s"), (3_660_000, "1h1m"), (90_000_000, "1d1h")];
        for (milliseconds, text) in table {
            assert_eq!(age(milliseconds), text);
        }
        assert_eq!(left(-1), "expired");
        assert_eq!(micros(1500), "1.5ms");
    }
}
