//! The film before and after, side by side in one PNG. The left half shows identified pixels: the
//! file is the owner's alone and never leaves the machine.

use std::io::Cursor;

use anyhow::{Context as _, Result};
use cloister_redact::{FoundBox, Preview};
use image::{DynamicImage, GrayImage, ImageFormat, Luma, Rgb, RgbImage, imageops};

/// Columns between the two halves.
const GAP: u32 = 12;
/// Grey of the gap.
const GAP_GREY: Luma<u8> = Luma([128]);

/// Colour of a frame around what was blanked, and around what stays.
const REDACTED: Rgb<u8> = Rgb([230, 40, 40]);
const KEPT: Rgb<u8> = Rgb([40, 200, 60]);

fn read(png: &[u8]) -> Result<DynamicImage> {
    image::load_from_memory_with_format(png, ImageFormat::Png).context("a rendition is no PNG")
}

/// A film's first frame before and after, side by side, with frames around what was found in it.
pub(crate) fn with_boxes(preview: &Preview) -> Result<Vec<u8>> {
    let draw = |png: &[u8]| -> Result<RgbImage> {
        let mut picture = read(png)?.into_rgb8();
        for found in preview.boxes().iter().filter(|found| found.frame == 0) {
            let colour = if found.is_redacted() { REDACTED } else { KEPT };
            frame(&mut picture, preview.size(), found, colour);
        }
        Ok(picture)
    };
    let (before, after) = (draw(preview.before())?, draw(preview.after())?);
    let width = before.width() + GAP + after.width();
    let height = before.height().max(after.height());
    let Luma([gap]) = GAP_GREY;
    let mut both = RgbImage::from_pixel(width, height, Rgb([gap; 3]));
    imageops::replace(&mut both, &before, 0, 0);
    imageops::replace(&mut both, &after, i64::from(before.width() + GAP), 0);
    encode(&DynamicImage::from(both))
}

/// A line of one pixel just outside a box, which is in pixels of a picture of another size.
fn frame(picture: &mut RgbImage, size: (u32, u32), found: &FoundBox, colour: Rgb<u8>) {
    let (width, height) = picture.dimensions();
    let scaled = |at: u32, old: u32, new: u32| {
        (u64::from(at) * u64::from(new) / u64::from(old.max(1))) as u32
    };
    let left = scaled(found.x, size.0, width).saturating_sub(1);
    let top = scaled(found.y, size.1, height).saturating_sub(1);
    let right = scaled(found.x + found.w, size.0, width).min(width.saturating_sub(1));
    let bottom = scaled(found.y + found.h, size.1, height).min(height.saturating_sub(1));
    let across = (left..=right).flat_map(|x| [(x, top), (x, bottom)]);
    let down = (top..=bottom).flat_map(|y| [(left, y), (right, y)]);
    for (x, y) in across.chain(down) {
        if let Some(pixel) = picture.get_pixel_mut_checked(x, y) {
            *pixel = colour;
        }
    }
}

fn encode(picture: &DynamicImage) -> Result<Vec<u8>> {
    let mut png = Cursor::new(Vec::new());
    picture
        .write_to(&mut png, ImageFormat::Png)
        .context("encoding the picture")?;
    Ok(png.into_inner())
}

/// Puts two PNGs side by side.
pub(crate) fn side_by_side(before: &[u8], after: &[u8]) -> Result<Vec<u8>> {
    let (before, after) = (read(before)?.into_luma8(), read(after)?.into_luma8());
    let width = before.width() + GAP + after.width();
    let height = before.height().max(after.height());
    let mut both = GrayImage::from_pixel(width, height, GAP_GREY);
    imageops::replace(&mut both, &before, 0, 0);
    imageops::replace(&mut both, &after, i64::from(before.width() + GAP), 0);
    encode(&DynamicImage::from(both))
}

#[cfg(test)]
mod tests {
    use super::{KEPT, frame, side_by_side};
    use cloister_redact::FoundBox;
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

    #[test]
    fn frames_follow_the_scale_and_stay_in_the_picture() {
        let mut picture = image::RgbImage::new(100, 50);
        let found = FoundBox {
            x: 40,
            y: 20,
            w: 40,
            h: 80,
            ..FoundBox::default()
        };
        frame(&mut picture, (200, 100), &found, KEPT);
        assert_eq!(*picture.get_pixel(19, 9), KEPT);
        assert_eq!(*picture.get_pixel(40, 49), KEPT);
        assert_eq!(picture.get_pixel(30, 30).0, [0; 3]);
    }
}
