//! The film before and after, side by side in one PNG. The left half shows identified pixels: the
//! file is the owner's alone and never leaves the machine.

use std::io::Cursor;

use anyhow::{Context as _, Result};
use image::{GrayImage, ImageFormat, Luma, imageops};

/// Columns between the two halves.
const GAP: u32 = 12;
/// Grey of the gap.
const GAP_GREY: Luma<u8> = Luma([128]);

/// Puts two PNGs side by side.
pub(crate) fn side_by_side(before: &[u8], after: &[u8]) -> Result<Vec<u8>> {
    let read = |png: &[u8]| -> Result<GrayImage> {
        let picture = image::load_from_memory_with_format(png, ImageFormat::Png);
        Ok(picture.context("a rendition is no PNG")?.into_luma8())
    };
    let (before, after) = (read(before)?, read(after)?);
    let width = before.width() + GAP + after.width();
    let height = before.height().max(after.height());
    let mut both = GrayImage::from_pixel(width, height, GAP_GREY);
    imageops::replace(&mut both, &before, 0, 0);
    imageops::replace(&mut both, &after, i64::from(before.width() + GAP), 0);
    let mut png = Cursor::new(Vec::new());
    both.write_to(&mut png, ImageFormat::Png)
        .context("encoding the picture")?;
    Ok(png.into_inner())
}

#[cfg(test)]
mod tests {
    use super::side_by_side;
    use image::{GrayImage, ImageFormat, Luma};
    use std::io::Cursor;

    fn png(width: u32, grey: u8) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        GrayImage::from_pixel(width, 10, Luma([grey]))
            .write_to(&mut bytes, ImageFormat::Png)
            .unwrap();
        bytes.into_inner()
    }

    #[test]
    fn both_halves_stand_in_the_picture() {
        let both = side_by_side(&png(20, 10), &png(30, 200)).unwrap();
        let both = image::load_from_memory(&both).unwrap().into_luma8();
        assert_eq!((both.width(), both.height()), (62, 10));
        assert_eq!(both.get_pixel(0, 0).0, [10]);
        assert_eq!(both.get_pixel(61, 9).0, [200]);
    }
}
