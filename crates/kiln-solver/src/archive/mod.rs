//! Archives between the client and the daemon, as streams in constant memory.
//!
//! The tar crate is synchronous; the daemon's streams are not. [`pipe`] joins the two: one end lives on a blocking
//! thread, the other is a stream, and a bounded channel between them is the only buffer.

mod copy;
mod emit;
mod pipe;

pub(crate) use copy::{Apply, CopySource, Place, apply, missing};
pub(crate) use pipe::{PipeWriter, StreamReader, writer};
