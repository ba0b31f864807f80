use std::fmt;
use wit_parser::{Resolve, Type, TypeDefKind};

/// A type without its name, so that two packages' types can be compared: components
/// fit by shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ty {
    /// A number, a string, or what no plugin's interface has (a resource, a stream).
    Plain(String),
    List(Box<Ty>),
    Option(Box<Ty>),
    Tuple(Vec<Ty>),
    Result(Option<Box<Ty>>, Option<Box<Ty>>),
    /// Fields in order.
    Record(Vec<(String, Ty)>),
    /// The keyword (`variant`, `enum`, `flags`), and the cases in order.
    Cases(&'static str, Vec<(String, Option<Ty>)>),
}

/// Types nest no deeper; a file may say anything.
const DEEPEST: usize = 64;

// === impl Ty ===

impl Ty {
    pub(super) fn read(resolve: &Resolve, ty: Type, depth: usize) -> Self {
        let plain = |name: &str| Self::Plain(name.to_owned());
        let id = match ty {
            Type::Bool => return plain("bool"),
            Type::U8 => return plain("u8"),
            Type::U16 => return plain("u16"),
            Type::U32 => return plain("u32"),
            Type::U64 => return plain("u64"),
            Type::S8 => return plain("s8"),
            Type::S16 => return plain("s16"),
            Type::S32 => return plain("s32"),
            Type::S64 => return plain("s64"),
            Type::F32 => return plain("f32"),
            Type::F64 => return plain("f64"),
            Type::Char => return plain("char"),
            Type::String => return plain("string"),
            Type::ErrorContext => return plain("error-context"),
            Type::Id(id) => id,
        };
        let Some(def) = resolve.types.get(id).filter(|_| depth < DEEPEST) else {
            return plain("a type too deep");
        };
        let one = |ty: &Type| Self::read(resolve, *ty, depth + 1);
        let boxed = |ty: &Type| Box::new(one(ty));
        match &def.kind {
            TypeDefKind::Type(ty) => one(ty),
            TypeDefKind::List(ty) => Self::List(boxed(ty)),
            TypeDefKind::Option(ty) => Self::Option(boxed(ty)),
            TypeDefKind::Tuple(tuple) => Self::Tuple(tuple.types.iter().map(one).collect()),
            TypeDefKind::Result(r) => {
                Self::Result(r.ok.as_ref().map(boxed), r.err.as_ref().map(boxed))
            }
            TypeDefKind::Record(record) => {
                let field = |f: &wit_parser::Field| (f.name.clone(), one(&f.ty));
                Self::Record(record.fields.iter().map(field).collect())
            }
            TypeDefKind::Variant(variant) => {
                let case = |c: &wit_parser::Case| (c.name.clone(), c.ty.as_ref().map(one));
                Self::Cases("variant", variant.cases.iter().map(case).collect())
            }
            TypeDefKind::Enum(e) => {
                let cases = e.cases.iter().map(|c| (c.name.clone(), None));
                Self::Cases("enum", cases.collect())
            }
            TypeDefKind::Flags(f) => {
                let flags = f.flags.iter().map(|f| (f.name.clone(), None));
                Self::Cases("flags", flags.collect())
            }
            other => plain(other.as_str()),
        }
    }

    /// Where it first differs from what the host has, `ours`; `at` is where this is.
    pub(super) fn differs(&self, ours: &Self, at: &str) -> Option<String> {
        match (self, ours) {
            _ if self == ours => None,
            (Self::List(their), Self::List(mine)) => their.differs(mine, &format!("each of {at}")),
            (Self::Option(their), Self::Option(mine)) => their.differs(mine, at),
            (Self::Record(their), Self::Record(mine)) => fields(their, mine, at),
            (their, mine) => Some(format!("{at} is {their}, this host has {mine}")),
        }
    }
}

fn fields(theirs: &[(String, Ty)], ours: &[(String, Ty)], at: &str) -> Option<String> {
    let of = |fields: &[(String, Ty)], name: &str| fields.iter().any(|(n, _)| n == name);
    for (name, mine) in ours {
        let Some((_, their)) = theirs.iter().find(|(n, _)| n == name) else {
            return Some(format!("{at} lacks the field `{name}` ({mine})"));
        };
        if let Some(how) = their.differs(mine, &format!("{at}.{name}")) {
            return Some(how);
        }
    }
    if let Some((name, _)) = theirs.iter().find(|(name, _)| !of(ours, name)) {
        return Some(format!(
            "{at} has a field `{name}`, which this host does not have"
        ));
    }
    Some(format!("the fields of {at} stand in another order"))
}

impl fmt::Display for Ty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or = |ty: &Option<Box<Ty>>| ty.as_ref().map_or("_".to_owned(), |t| t.to_string());
        let names = |names: &mut dyn Iterator<Item = &String>| {
            let names: Vec<_> = names.map(String::as_str).collect();
            names.join(", ")
        };
        match self {
            Self::Plain(name) => f.write_str(name),
            Self::List(ty) => write!(f, "list<{ty}>"),
            Self::Option(ty) => write!(f, "option<{ty}>"),
            Self::Tuple(types) => {
                let types: Vec<_> = types.iter().map(Self::to_string).collect();
                write!(f, "tuple<{}>", types.join(", "))
            }
            Self::Result(None, None) => f.write_str("result"),
            Self::Result(ok, None) => write!(f, "result<{}>", or(ok)),
            Self::Result(ok, err) => write!(f, "result<{}, {}>", or(ok), or(err)),
            Self::Record(fields) => {
                let names = names(&mut fields.iter().map(|(name, _)| name));
                write!(f, "record {{ {names} }}")
            }
            Self::Cases(word, cases) => {
                let names = names(&mut cases.iter().map(|(name, _)| name));
                write!(f, "{word} {{ {names} }}")
            }
        }
    }
}
