//! The body of a phantom: smooth shapes whose places vary with the seed.

/// Numbers that place the organs of one phantom. Coordinates: film middle (0, 0), down is positive.
#[derive(Debug)]
pub(crate) struct Anatomy {
    seed: u64,
    body_width: f32,
    lung_width: f32,
    lung_top: f32,
    dome: [f32; 2],
    heart: f32,
    lean: f32,
    rib_step: f32,
    rib_shift: f32,
    exposure: f32,
}

/// SplitMix64: a well mixed 64-bit value of any input.
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn unit(value: u64) -> f32 {
    (mix(value) >> 40) as f32 / (1_u64 << 24) as f32
}

/// 1 inside, 0 outside, smooth over `edge` around zero; `d` is negative inside.
fn inside(d: f32, edge: f32) -> f32 {
    let t = (0.5 - d / edge).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

/// A bump of height 1 and width `width`.
fn bump(d: f32, width: f32) -> f32 {
    (-(d / width) * (d / width)).exp()
}

impl Anatomy {
    pub(crate) fn new(seed: u64) -> Self {
        let vary = |at: u64, low: f32, high: f32| {
            let share = unit(mix(seed).wrapping_add(at));
            low + (high - low) * share
        };
        Self {
            seed: mix(seed),
            body_width: vary(1, 0.80, 0.90),
            lung_width: vary(2, 0.29, 0.33),
            lung_top: vary(3, -0.72, -0.64),
            dome: [vary(4, 0.40, 0.48), vary(5, 0.46, 0.54)],
            heart: vary(6, 0.27, 0.34),
            lean: vary(7, -0.02, 0.02),
            rib_step: vary(8, 0.125, 0.145),
            rib_shift: vary(9, 0.0, 0.1),
            exposure: vary(10, 0.94, 1.06),
        }
    }

    /// Grain, -1 to 1, about bell-shaped.
    pub(crate) fn noise(&self, x: u32, y: u32) -> f32 {
        let at = self.seed ^ (u64::from(x) << 32 | u64::from(y));
        unit(at) + unit(at ^ 0x5555) + unit(at ^ 0xAAAA) - 1.5
    }

    /// Value noise at a frequency, 0 to 1, smooth.
    fn cloud(&self, u: f32, v: f32, frequency: f32, salt: u64) -> f32 {
        let (x, y) = (u * frequency + 100.0, v * frequency + 100.0);
        let (left, top) = (x.floor(), y.floor());
        let smooth = |t: f32| t * t * (3.0 - 2.0 * t);
        let (fx, fy) = (smooth(x - left), smooth(y - top));
        let corner = |dx: u64, dy: u64| {
            unit(self.seed ^ salt ^ ((left as u64 + dx) << 20) ^ (top as u64 + dy))
        };
        let upper = corner(0, 0) * (1.0 - fx) + corner(1, 0) * fx;
        let lower = corner(0, 1) * (1.0 - fx) + corner(1, 1) * fx;
        upper * (1.0 - fy) + lower * fy
    }

    /// Brightness at a point, 0 black to about 1 white.
    pub(crate) fn grey(&self, u: f32, v: f32) -> f32 {
        let x = u - self.lean;
        let (body, outside) = self.body(x, v);
        let mut tissue = 0.50 * body;
        tissue += 0.10 * body * inside(-(v - 0.5), 0.5);
        tissue *= 1.0 - 0.25 * bump(outside, 0.05);
        let (lung, depth) = self.lungs(x, v);
        tissue -= 0.40 * lung * (0.75 + 0.25 * depth);
        tissue += lung * self.vessels(x, v);
        tissue += self.bones(x, v) * body;
        tissue += 0.27 * self.heart_shadow(x, v);
        tissue += 0.015 * (self.cloud(u, v, 9.0, 11) - 0.5) * body;
        (tissue * self.exposure + 0.03).clamp(0.0, 1.0)
    }

    /// How much of the point is body, and the distance to the outline.
    fn body(&self, x: f32, v: f32) -> (f32, f32) {
        let neck = inside(x.abs() - 0.20 - 0.03 * (v + 1.0), 0.06) * inside(v + 0.55, 0.3);
        let slope = -0.80 + 0.42 * (x.abs() - 0.18).max(0.0);
        let shoulders = inside(slope - v, 0.07);
        let side = x.abs() - self.body_width - 0.05 * (v * 2.0).sin();
        let trunk = shoulders * inside(side, 0.05);
        (trunk.max(neck), side.abs())
    }

    /// How much of the point is lung, and how deep inside it lies.
    fn lungs(&self, x: f32, v: f32) -> (f32, f32) {
        let left_of_film = x < 0.0;
        let dome = if left_of_film {
            self.dome[0]
        } else {
            self.dome[1]
        };
        let centre = 0.37;
        let along = ((v - self.lung_top) / (dome - self.lung_top)).clamp(0.0, 1.0);
        // Narrow at the apex, wide at the base, cut by the diaphragm's dome.
        let half = self.lung_width * (0.30 + 0.70 * (along * 2.6).min(1.57).sin()) * 1.02;
        let middle = centre - 0.09 * (1.0 - along) + 0.015 * along;
        let from_middle = (x.abs() - middle).abs();
        let arch = ((x.abs() - middle + 0.05) / 0.40).abs();
        let floor = dome + 0.16 * arch * arch + 0.35 * (x.abs() - middle).max(0.0).powf(1.5);
        let wall = (from_middle - half).max(self.lung_top - v).max(v - floor);
        let apex = (x.abs() - middle) / half.max(0.05);
        let dome_top = self.lung_top + 0.10 * apex * apex;
        let lung = inside(wall, 0.035) * inside(dome_top - v, 0.05);
        (lung, (1.0 - from_middle / half.max(0.05)).clamp(0.0, 1.0))
    }

    fn vessels(&self, x: f32, v: f32) -> f32 {
        // Branches run out of the hilum: a fan of lines bent by clouds, fading with the distance.
        let (hx, hy) = (x.abs() - 0.10, v + 0.04);
        let radius = (hx * hx + hy * hy).sqrt();
        let bend = self.cloud(x, v, 5.0, 21) - 0.5;
        let angle = hy.atan2(hx.max(0.001)) + bend * 0.9;
        let fan = (angle * 11.0 + if x < 0.0 { 1.7 } else { 0.0 }).sin();
        let branches = inside(0.82 - fan, 0.30) * bump(radius, 0.28);
        let hilum = bump(radius, 0.085);
        0.11 * branches
            + 0.20 * hilum
            + 0.05 * self.cloud(x, v, 34.0, 31)
            + 0.035 * self.cloud(x, v, 80.0, 41)
    }

    fn bones(&self, x: f32, v: f32) -> f32 {
        // Spine: a column with bodies and gaps, seen faintly through the mediastinum.
        let gaps = 0.75 + 0.25 * (v * 42.0).sin();
        let spine = (0.07 * gaps + 0.03) * inside(x.abs() - 0.085, 0.03)
            + 0.03 * bump(x.abs() - 0.085, 0.012)
            + 0.10 * inside(x.abs() - 0.13, 0.14);
        // Ribs: behind they fall gently outwards, in front steeply inwards.
        let out = x.abs();
        let chest = inside(out - 0.66, 0.12) * inside(v - 0.56, 0.25) * inside(-0.78 - v, 0.08);
        let back = v - 0.62 * out * out - 0.02 * (out * 9.0).sin() + self.rib_shift;
        let front = v + 0.55 * (out - 0.1) - 0.35 * out * out + self.rib_shift;
        let band = |d: f32, step: f32, half: f32| {
            let at = (d / step).rem_euclid(1.0) - 0.5;
            let across = at.abs() * step;
            inside(across - half, 0.012) * 0.65 + bump(across - half, 0.006) * 0.45
        };
        let behind = band(back, self.rib_step, 0.021) * inside(0.10 - out, 0.05);
        let before = band(front, self.rib_step * 1.12, 0.019) * inside(0.30 - out, 0.12) * 0.5;
        // Collar bones and shoulder blades.
        let collar_line = v + 0.66 + 0.16 * (out - 0.08) - 0.05 * (out * 7.0).sin();
        let collar = (inside(collar_line.abs() - 0.020, 0.012)
            + 0.5 * bump(collar_line.abs() - 0.020, 0.007))
            * inside(out - 0.70, 0.05)
            * inside(0.05 - out, 0.03);
        let blade_line = out - 0.66 + 0.22 * (v + 0.35);
        let blade = inside(-blade_line, 0.05) * inside(v + 0.02, 0.12) * inside(-0.62 - v, 0.1);
        spine + chest * (0.085 * behind + 0.06 * before) + 0.12 * collar + 0.07 * blade
    }

    fn heart_shadow(&self, x: f32, v: f32) -> f32 {
        let (cx, cy) = (x - 0.085, v - 0.22);
        let (a, b) = (cx * 0.88 + cy * 0.47, -cx * 0.47 + cy * 0.88);
        let heart = inside((a / self.heart).hypot(b / (self.heart * 0.74)) - 1.0, 0.14);
        let knob = inside(((x - 0.10) / 0.075).hypot((v + 0.27) / 0.085) - 1.0, 0.35);
        let middle = inside((x - 0.01).abs() - 0.105 - 0.03 * v.abs(), 0.05) * inside(v - 0.5, 0.2);
        let airway = inside(x.abs() - 0.035, 0.02) * inside(v + 0.16, 0.08);
        heart.max(0.75 * knob).max(0.70 * middle) - 0.28 * airway
    }
}
