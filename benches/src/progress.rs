//! The progress of a run, on the terminal.

use indicatif::{ProgressBar, ProgressStyle};
use workloads::Result;

/// Returns a line that shows the progress.
pub(crate) fn progress(steps: u64) -> Result<ProgressBar> {
    let style =
        ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed}, about {eta} left: {msg}")?;
    Ok(ProgressBar::new(steps).with_style(style))
}
