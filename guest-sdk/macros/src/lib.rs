//! The `#[filter]` macro of tailmill-filter: takes a function or an `impl Filter for …`, gives a module.
//!
//! It writes as little as possible: the packing lives in tailmill-filter, where it can be read and tested.

mod export;
mod function;
mod implementation;

use proc_macro::TokenStream;

/// Makes a filter module out of a function on one line, or out of an `impl Filter for Type`. One a crate.
///
/// # On a function
///
/// The first parameter is the line, `&[u8]`. Two more may follow, in any order: `&Config` (any type that serde can read, or
/// none) and `&mut Ctx`. It returns a `Verdict`, a `bool` (true keeps) or a `Result` of one of them. Such a filter is
/// stateless: it judges every line alone. In tests it goes by its own name: `testing::texts::<my_filter>(…)`.
///
/// - `#[filter(needles = ["error", "warn"])]`: lines without any of these never reach the function and are dropped;
/// - `#[filter(needles = ["password="], keep_skipped)]`: they are kept instead.
///
/// # On an `impl Filter for Type`
///
/// The module offers ticks if there is a method `tick`, a flush if there is `flush`, and state if there are `save` and
/// `load`. `#[filter(state = FIELD)]` writes the last two for a field that serde can write and read.
///
/// ```compile_fail
/// # use tailmill_filter_macros::filter;
/// #[filter]
/// fn not_a_filter(line: String) -> bool { true }
/// ```
#[proc_macro_attribute]
pub fn filter(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let item = syn::parse_macro_input!(item as syn::Item);
    let made = match item {
        syn::Item::Fn(function) => syn::parse(arguments).and_then(|arguments| function::expand(&arguments, &function)),
        syn::Item::Impl(block) => syn::parse(arguments).and_then(|arguments| implementation::expand(&arguments, block)),
        other => Err(syn::Error::new_spanned(other, "#[filter] goes on a function or on an `impl Filter for …`")),
    };
    made.unwrap_or_else(|error| error.to_compile_error()).into()
}
