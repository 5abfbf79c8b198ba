//! How far a run has come, on the terminal.

use indicatif::{ProgressBar, ProgressStyle};
use workloads::Result;

/// A line that shows how far it has come.
pub(crate) fn progress(steps: u64) -> Result<ProgressBar> {
    let style =
        ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed}, about {eta} left: {msg}")?;
    Ok(ProgressBar::new(steps).with_style(style))
}
