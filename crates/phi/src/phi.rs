//! The wrapper around identified data.

use std::fmt;

/// Data that identifies, or could identify, a patient.
///
/// It has no `Display`, its `Debug` prints the type only, and it cannot be serialized. The one way
/// to the value is [`Phi::expose`], a word that is easy to search for in a review.
///
/// ```compile_fail
/// let name = cloister_phi::Phi::new(String::from("Doe^Jane"));
/// println!("{name}");
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Phi<T>(T);

impl<T> Phi<T> {
    /// Marks `value` as identified data.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The identified value. Never log, count or return it to a peer.
    pub const fn expose(&self) -> &T {
        &self.0
    }

    /// Gives the value up, together with its protection.
    pub fn into_inner(self) -> T {
        self.0
    }

    /// Applies `f` inside the wrapper.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Phi<U> {
        Phi(f(self.0))
    }
}

impl<T> fmt::Debug for Phi<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Phi<{}>", std::any::type_name::<T>())
    }
}

impl<T> From<T> for Phi<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

#[cfg(test)]
mod tests {
    use super::Phi;

    #[test]
    fn debug_prints_the_type_and_never_the_value() {
        let printed = format!("{:?}", Phi::new(String::from("Zyxwv^Canary")));
        assert!(printed.contains("String"), "{printed}");
        assert!(!printed.contains("Canary"), "{printed}");
    }
}
