//! Draws calls, plans, steps and options.

use std::io::ErrorKind;
use std::time::Duration;

use arbitrary::{Result, Unstructured};
use handlers::{ConnectionOptions, RateLimit};

use super::{Act, Plan, Step};

fn size(u: &mut Unstructured<'_>) -> Result<usize> {
    Ok(match u.int_in_range(0..=7)? {
        0 => 0,
        1..=4 => usize::from(u.arbitrary::<u8>()?),
        5 => u.int_in_range(0..=3000)?,
        6 => u.int_in_range(15_000..=40_000)?,
        _ => u.int_in_range(0..=400_000)?,
    })
}

fn time(u: &mut Unstructured<'_>) -> Result<Duration> {
    Ok(match u.int_in_range(0..=3)? {
        0 => Duration::ZERO,
        1 => Duration::from_millis(u.int_in_range(0..=20)?),
        2 => Duration::from_millis(u.int_in_range(0..=3000)?),
        _ => Duration::from_secs(u.int_in_range(0..=10_000)?),
    })
}

fn act(u: &mut Unstructured<'_>) -> Result<Act> {
    Ok(match u.int_in_range(0..=20)? {
        0..=3 => Act::Write(size(u)?),
        4 | 5 => Act::WriteShared(size(u)?),
        6 => Act::Flush,
        7 => Act::Pause,
        8 => Act::Resume,
        9 => Act::ReadWhileFull,
        10 => Act::BeginResponse,
        11 => Act::EndResponse,
        12 => Act::Shutdown,
        13 => Act::ShutdownAfterResponses,
        14 => Act::CloseGracefully(time(u)?),
        15 => Act::CloseAfterFlush(time(u)?),
        16 => Act::AbortAfterFlush(time(u)?),
        17 => Act::Close,
        18 => Act::Abort,
        _ => Act::SetOptions(u.int_in_range(0..=3)?),
    })
}

fn acts(u: &mut Unstructured<'_>) -> Result<Vec<Act>> {
    (0..u.int_in_range(0..=3)?).map(|_| act(u)).collect()
}

pub(super) fn plan(u: &mut Unstructured<'_>) -> Result<Plan> {
    let acts = acts(u)?;
    let consumes = if u.arbitrary()? { usize::MAX } else { size(u)? };
    let error = match u.int_in_range(0..=15)? {
        0 => Some(ErrorKind::Other),
        1 => Some(ErrorKind::WouldBlock),
        2 => Some(ErrorKind::Interrupted),
        _ => None,
    };
    Ok(Plan {
        acts,
        consumes,
        error,
    })
}

pub(super) fn step(u: &mut Unstructured<'_>) -> Result<Step> {
    Ok(match u.int_in_range(0..=13)? {
        0..=2 => Step::PeerSends(size(u)?),
        3 | 4 => Step::PeerReads(size(u)?),
        5 => Step::PeerEnds,
        6 => Step::PeerCloses,
        7 | 8 => Step::Turn,
        9 => Step::Advance(time(u)?),
        10 | 11 => Step::Access(acts(u)?),
        12 => Step::Command(act(u)?),
        _ => Step::Remove,
    })
}

pub(super) fn options(u: &mut Unstructured<'_>) -> Result<ConnectionOptions> {
    let mut options = ConnectionOptions::new();
    if u.arbitrary()? {
        options = options.watermarks(size(u)?, size(u)?);
    }
    if u.ratio(1, 4)? {
        options = options.max_write_queue(size(u)?);
    }
    if u.ratio(1, 4)? {
        options = options.max_buffered_input(size(u)?);
    }
    if u.ratio(1, 4)? {
        options = options.max_bytes_per_turn(size(u)?.max(200));
    }
    if u.ratio(1, 4)? {
        options = options.idle_timeout(time(u)?);
    }
    if u.ratio(1, 4)? {
        options = options.read_timeout(time(u)?);
    }
    if u.ratio(1, 4)? {
        options = options.write_timeout(time(u)?);
    }
    // A slow rate would take many turns.
    let rate = |u: &mut Unstructured<'_>| {
        let bytes_per_second = u.int_in_range(20_000..=1_000_000)?;
        Ok(RateLimit::new(bytes_per_second, size(u)? as u64))
    };
    if u.ratio(1, 6)? {
        options = options.read_rate(rate(u)?);
    }
    if u.ratio(1, 6)? {
        options = options.write_rate(rate(u)?);
    }
    Ok(options)
}
