//! Why a contestant takes no part: what it needs is not installed, or it has failed, which fails
//! the run.

use std::fmt::{self, Display, Formatter};

use workloads::Result;

/// Why a contestant takes no part, in a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Absence {
    /// What it needs of the system is not installed.
    Missing(String),
    /// That is there, but it cannot be built, or fails.
    Failed(String),
}

impl Absence {
    /// How a program or its build has failed; all of what that said, if it is more, goes to
    /// standard error.
    pub(crate) fn failed(how: &str, error: &impl ToString) -> Self {
        Self::Failed(format!("{how}: {}", in_a_line(error)))
    }
}

impl Display for Absence {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let (Self::Missing(why) | Self::Failed(why)) = self;
        out.write_str(why)
    }
}

/// Looks for those who have failed among the absent of each table.
///
/// # Errors
/// Who has failed, and where.
pub(crate) fn nobody_failed<'a>(
    tables: impl IntoIterator<Item = (&'static str, &'a [(&'static str, Absence)])>,
) -> Result {
    let mut failed = Vec::new();
    for (title, absent) in tables {
        let failures = absent
            .iter()
            .filter(|(_, why)| matches!(why, Absence::Failed(_)));
        failed.extend(failures.map(|(name, why)| format!("{title}, {name}: {why}")));
    }
    if failed.is_empty() {
        Ok(())
    } else {
        Err(failed.join("\n").into())
    }
}

/// What went wrong, short enough for a table: the last line, which is what tools end with. If there
/// are more, all of them go to standard error.
fn in_a_line(error: &impl ToString) -> String {
    let said = error.to_string();
    let last = last_line(&said);
    if last != said {
        eprintln!("{said}");
    }
    last.to_owned()
}

fn last_line(said: &str) -> &str {
    said.lines()
        .map(str::trim)
        .rfind(|line| !line.is_empty())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_reported_with_its_last_line_that_is_not_empty() {
        assert_eq!(
            last_line("\"cc\": exit status: 1\nfatal error: ev.h\n\n"),
            "fatal error: ev.h"
        );
        assert_eq!(last_line("refused"), "refused");
        assert_eq!(last_line(""), "");
    }

    #[test]
    fn a_missing_contestant_is_no_failure_and_every_failure_is_reported() {
        let missing = [("libev", Absence::Missing("it is not installed".to_owned()))];
        let failed = [
            missing[0].clone(),
            (
                "reactor",
                Absence::Failed("it failed: no memory".to_owned()),
            ),
        ];
        assert!(nobody_failed([("a chain", &missing[..]), ("an echo", &[])]).is_ok());
        let told = nobody_failed([("a chain", &failed[..]), ("an echo", &failed[1..])])
            .unwrap_err()
            .to_string();
        assert_eq!(
            told,
            "a chain, reactor: it failed: no memory\nan echo, reactor: it failed: no memory"
        );
    }
}
