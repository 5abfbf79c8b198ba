//! Files: sent and stored piece by piece, at the pace of the client and of the disk.

use std::fs::{self, File, OpenOptions};
use std::future::Future;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use handlers::PoolHandle;
use handlers::futures::{PendingJob, now, sleep_until, submit, with_context};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use crate::{Daemon, Site};

/// The size of the pieces in which a file is read.
const PIECE: u64 = 64 * 1024;

/// The body of a response: a text or a file.
pub(crate) enum Answer {
    Text(Option<Bytes>),
    File(FileBody),
}

/// A file that is read on the workers while it is sent.
pub(crate) struct FileBody {
    pool: PoolHandle<Daemon>,
    file: Arc<File>,
    at: u64,
    end: u64,
    reading: Option<PendingJob<io::Result<Bytes>>>,
}

impl FileBody {
    /// Opens a file.
    pub(crate) async fn open(pool: &PoolHandle<Daemon>, path: PathBuf) -> io::Result<Self> {
        let opening = submit(pool, move || -> io::Result<_> {
            let file = File::open(&path).map_err(|error| named("open", &path, &error))?;
            let metadata = file.metadata()?;
            if !metadata.is_file() {
                return Err(io::ErrorKind::NotFound.into());
            }
            Ok((file, metadata.len()))
        });
        let (file, end) = opening.await??;
        Ok(Self {
            pool: pool.clone(),
            file: Arc::new(file),
            at: 0,
            end,
            reading: None,
        })
    }

    /// Reads the next piece. A file that has become shorter is an error, so the client does not
    /// take what it has got for the whole file.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let left = self.end - self.at;
        if left == 0 {
            return Poll::Ready(None);
        }
        let Self { pool, file, at, .. } = self;
        let reading = self.reading.get_or_insert_with(|| {
            let (file, at) = (Arc::clone(file), *at);
            submit(pool, move || -> io::Result<_> {
                let mut piece = vec![0; left.min(PIECE) as usize];
                file.read_exact_at(&mut piece, at)?;
                Ok(Bytes::from(piece))
            })
        });
        let done = ready!(Pin::new(reading).poll(cx));
        let piece = done.unwrap_or_else(|end| Err(end.into()));
        self.reading = None;
        if let Ok(piece) = &piece {
            self.at += piece.len() as u64;
        }
        Poll::Ready(Some(piece.map(Frame::data)))
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &mut *self {
            Self::Text(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Self::File(file) => file.poll_piece(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.size_hint().exact() == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            Self::Text(text) => text.as_ref().map_or(0, |text| text.len() as u64),
            Self::File(file) => file.end - file.at,
        })
    }
}

/// Stores a body as a file, which gets its name when all of it has come. Takes the next piece from
/// the client when the last one is stored. Returns the number of bytes.
pub(crate) async fn store(mut body: Incoming, path: PathBuf, site: &Site) -> io::Result<u64> {
    let unfinished = Arc::new(Unfinished::new(&path));
    let part = Arc::clone(&unfinished);
    let opening = submit(&site.pool, move || -> io::Result<_> {
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&part.0)
            .map_err(|error| named("open", &part.0, &error))?;
        Ok(Arc::new(file))
    });
    let file = opening.await??;
    let (mut stored, began) = (0, now());
    while let Some(frame) = body.frame().await {
        let Ok(piece) = frame.map_err(io::Error::other)?.into_data() else {
            continue; // trailers
        };
        let (length, to) = (piece.len() as u64, Arc::clone(&file));
        let part = Arc::clone(&unfinished);
        let writing = submit(&site.pool, move || {
            let written = (&*to).write_all(&piece);
            written.map_err(|error| named("write", &part.0, &error))
        });
        writing.await??;
        stored += length;
        with_context(move |cx: &mut reactor::Context<'_, Daemon>| {
            cx.state.uploaded_bytes += length
        })
        .await;
        if let (Some(rate), Some(began)) = (site.upload_rate, began) {
            let due = began + Duration::from_secs_f64(stored as f64 / rate as f64);
            if now().is_some_and(|now| now < due) {
                sleep_until(due).await;
            }
        }
    }
    let part = unfinished;
    submit(&site.pool, move || -> io::Result<()> {
        file.sync_data()?;
        fs::rename(&part.0, &path).map_err(|error| named("rename", &path, &error))
    })
    .await??;
    Ok(stored)
}

/// Returns an error that names the call and the path.
fn named(call: &str, path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{call}({}): {error}", path.display()))
}

/// The file of an upload that is not complete. It is removed if the upload fails. The job that uses
/// its path holds it too, so that no job makes the file after its removal.
struct Unfinished(PathBuf);

impl Unfinished {
    fn new(path: &Path) -> Self {
        use std::sync::atomic::{AtomicU64, Ordering};
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!(".upload-{}-{number}", std::process::id());
        Self(path.with_file_name(name))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Not found: it was renamed, or never made.
        let _ = fs::remove_file(&self.0);
    }
}
