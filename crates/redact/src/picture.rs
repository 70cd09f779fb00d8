//! First step for a PNG or JPEG picture: it becomes a [`Film`] of one grey frame.

use std::io::Cursor;

use image::{ImageFormat, ImageReader, Limits};

use crate::decode::{MAX_FRAME_PIXELS, MAX_SAMPLE_BYTES};
use crate::error::{RedactError, Undecodable};
use crate::film::{Display, Film, Function, Photometric, Stored, Voi};

/// PNG or JPEG by its first bytes.
pub(crate) fn format_of(bytes: &[u8]) -> Option<ImageFormat> {
    if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        Some(ImageFormat::Png)
    } else if bytes.starts_with(&[0xFF, 0xD8, 0xFF]) {
        Some(ImageFormat::Jpeg)
    } else {
        None
    }
}

/// Decodes a picture.
pub(crate) fn decode(bytes: &[u8]) -> Result<Film, RedactError> {
    let format = format_of(bytes).ok_or(RedactError::Undecodable(Undecodable::NotAPicture))?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(u32::from(u16::MAX));
    limits.max_image_height = Some(u32::from(u16::MAX));
    limits.max_alloc = Some(MAX_SAMPLE_BYTES as u64);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits);
    let picture = reader
        .decode()
        .map_err(|_| RedactError::Undecodable(Undecodable::Codec))?;
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    if width == 0 || height == 0 {
        return Err(RedactError::Undecodable(Undecodable::BadAttributes));
    }
    if width * height > MAX_FRAME_PIXELS {
        return Err(RedactError::TooLarge);
    }
    Ok(Film {
        width,
        height,
        frames: 1,
        channels: 1,
        bytes_per_sample: 1,
        bits_stored: 8,
        signed: false,
        float: false,
        photometric: Photometric::Monochrome2,
        samples: picture.into_luma8().into_raw(),
        // A picture is already what a person would see.
        display: Display {
            voi: Some(Voi::Window(128.0, 256.0, Function::Linear)),
            ..Display::default()
        },
        stored: Stored::default(),
    })
}
