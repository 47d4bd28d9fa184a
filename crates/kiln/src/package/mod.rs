//! What is made of finished programs.

pub(crate) mod image;
