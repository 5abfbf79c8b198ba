//! The day of a point in time, as people write it.

use std::fmt;

use rustls::pki_types::UnixTime;

/// Displays as "2026-11-29", in UTC.
pub(in crate::tls) struct Day(pub(in crate::tls) UnixTime);

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = civil(self.0.as_secs() / (24 * 60 * 60));
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

/// Returns year, month and day of a number of days since 1970.
///
/// Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms". Years begin in March, so
/// that a leap day is the last day of its year.
const fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468; // from 0000-03-01 to 1970-01-01
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = era * 400 + year_of_era + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::civil;

    #[test]
    fn days_have_their_dates_also_around_leap_days() {
        let dates = [
            (0, (1970, 1, 1)),
            (11_016, (2000, 2, 29)),
            (11_017, (2000, 3, 1)),
            (20_786, (2026, 11, 29)),
            (47_540, (2100, 2, 28)),
            (47_541, (2100, 3, 1)), // 2100 has no leap day
            (2_932_896, (9999, 12, 31)),
        ];
        for (days, date) in dates {
            assert_eq!(civil(days), date, "day {days}");
        }
    }
}
