//! The Python dictionary at the start of a `.npy` file.

/// What it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    /// The element type as written; none for a record of several fields.
    pub(super) descr: Option<String>,
    /// Whether the first index changes fastest.
    pub(super) fortran: bool,
    /// Lengths of the axes.
    pub(super) shape: Vec<u64>,
}

impl Header {
    /// Parses a dictionary of `descr`, `fortran_order` and `shape`, in any order. As NumPy does, it takes the long integers of
    /// Python 2 (`2L`).
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut rest = Rest(text.trim());
        rest.take("{")?;
        let (mut descr, mut fortran, mut shape) = (None, None, None);
        while rest.take("}").is_none() {
            let key = rest.quoted()?;
            rest.take(":")?;
            let is_new = match key {
                "descr" => descr.replace(rest.descr()?).is_none(),
                "fortran_order" => fortran.replace(rest.boolean()?).is_none(),
                "shape" => shape.replace(rest.shape()?).is_none(),
                _ => return None,
            };
            if !is_new || rest.take(",").is_none() && !rest.0.starts_with('}') {
                return None;
            }
        }
        rest.0.is_empty().then_some(Self { descr: descr?, fortran: fortran?, shape: shape? })
    }
}

/// What is left of the text, without white space before it.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    /// Steps over `word`, if it stands here.
    fn take(&mut self, word: &str) -> Option<()> {
        self.0 = self.0.strip_prefix(word)?.trim_start();
        Some(())
    }

    /// A string without escapes, in either kind of quotes; `u` before it is Python 2's.
    fn quoted(&mut self) -> Option<&'a str> {
        let text = self.0.strip_prefix('u').unwrap_or(self.0);
        let quote = text.chars().next().filter(|quote| matches!(quote, '\'' | '"'))?;
        let (inside, after) = text[1..].split_once(quote)?;
        self.0 = after.trim_start();
        (!inside.contains('\\')).then_some(inside)
    }

    /// The type's name; none for a list or a tuple, of which nothing after is read.
    fn descr(&mut self) -> Option<Option<String>> {
        if self.0.starts_with(['[', '(']) {
            self.0 = self.past_brackets()?;
            return Some(None);
        }
        self.quoted().map(|name| Some(name.to_owned()))
    }

    /// What follows the bracket that opens here and all that is in it; brackets in strings are none.
    fn past_brackets(&self) -> Option<&'a str> {
        let (mut depth, mut quote) = (0_usize, None);
        for (at, character) in self.0.char_indices() {
            match (quote, character) {
                (Some(open), _) if open == character => quote = None,
                (Some(_), _) => {}
                (None, '\'' | '"') => quote = Some(character),
                (None, '[' | '(') => depth += 1,
                (None, ']' | ')') => depth -= 1,
                (None, _) => {}
            }
            if depth == 0 {
                return Some(self.0[at + character.len_utf8()..].trim_start());
            }
        }
        None
    }

    fn boolean(&mut self) -> Option<bool> {
        if self.take("True").is_some() { Some(true) } else { self.take("False").map(|()| false) }
    }

    /// A tuple of integers; one of a single integer has a comma.
    fn shape(&mut self) -> Option<Vec<u64>> {
        self.take("(")?;
        let mut lengths = Vec::new();
        let mut commas = 0;
        while self.take(")").is_none() {
            let digits = self.0.len() - self.0.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            lengths.push(self.0[..digits].parse().ok()?);
            self.0 = &self.0[digits..];
            self.0 = self.0.strip_prefix('L').unwrap_or(self.0).trim_start();
            if self.take(",").is_some() {
                commas += 1;
            } else if !self.0.starts_with(')') {
                return None;
            }
        }
        (lengths.len() != 1 || commas == 1).then_some(lengths)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<(Option<String>, bool, Vec<u64>)> {
        Header::parse(text).map(|header| (header.descr, header.fortran, header.shape))
    }

    #[test]
    fn headers_that_numpy_reads_are_understood() {
        let f4 = || Some("<f4".to_owned());
        for (text, shape) in [
            (
                "{'descr': '<f4', 'fortran_order': False, 'shape': (6, 128, 1536), }          \n",
                &[6, 128, 1536][..],
            ),
            ("{'shape':(2L,),'fortran_order':False,'descr':'<f4'}", &[2]),
            ("{u'descr': u'<f4', 'fortran_order': False, \"shape\": (2L, 3L)}", &[2, 3]),
            ("  {'descr': '<f4', 'fortran_order': False, 'shape': ()}", &[]),
            ("{'descr': '<f4' , 'fortran_order': False , 'shape': ( 7 , ) , }", &[7]),
        ] {
            assert_eq!(parse(text), Some((f4(), false, shape.to_vec())), "{text}");
        }
        let records =
            "{'descr': [('a)', '<f4'), ('b', '<i4', (2,))], 'fortran_order': True, 'shape': (3,), }";
        assert_eq!(parse(records), Some((None, true, vec![3])));
    }

    #[test]
    fn headers_with_a_mistake_are_refused() {
        let good = "{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }";
        assert!(Header::parse(good).is_some());
        for (from, to) in [
            ("'shape'", "'form'"),
            ("(3,)", "(3)"),
            ("(3,)", "(-3,)"),
            ("(3,)", "(3,,)"),
            ("(3,)", "[3]"),
            ("(3,)", "(a,)"),
            ("(3,)", "(18446744073709551616,)"),
            ("(3,)", "(,)"),
            ("False", "0"),
            ("'<f4'", "'<f4"),
            ("'<f4'", "'\\x3cf4'"),
            ("'<f4'", "[('a', '<f4')"),
            ("}", "} x"),
            ("}", ""),
            ("{", ""),
            ("'shape'", "'descr': '<f4', 'shape'"),
            ("False, ", "False "),
        ] {
            let bad = good.replacen(from, to, 1);
            assert!(Header::parse(&bad).is_none(), "{bad}");
        }
    }
}
