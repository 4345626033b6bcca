//! `#[filter]` on an `impl Filter for Type`: looks at which optional methods are there and exports just those.

use proc_macro2::TokenStream;
use quote::quote;
use syn::parse::{Parse, ParseStream};
use syn::{Error, Ident, ImplItem, ItemImpl, Result, Token, parse_quote};

use crate::export::{Offers, exports};

/// `state = FIELD`.
#[derive(Default)]
pub(crate) struct Arguments {
    state: Option<Ident>,
}

impl Parse for Arguments {
    fn parse(input: ParseStream<'_>) -> Result<Arguments> {
        if input.is_empty() {
            return Ok(Arguments::default());
        }
        let name: Ident = input.parse()?;
        if name != "state" {
            return Err(Error::new(name.span(), "on an `impl Filter`: `state = FIELD`"));
        }
        input.parse::<Token![=]>()?;
        let field = input.parse()?;
        input.parse::<Option<Token![,]>>()?;
        Ok(Arguments { state: Some(field) })
    }
}

pub(crate) fn expand(arguments: &Arguments, mut block: ItemImpl) -> Result<TokenStream> {
    let is_filter =
        block.trait_.as_ref().and_then(|(_, path, _)| path.segments.last()).is_some_and(|last| last.ident == "Filter");
    if !is_filter {
        return Err(Error::new_spanned(&block.self_ty, "#[filter] goes on an `impl Filter for …`"));
    }
    if !block.generics.params.is_empty() {
        return Err(Error::new_spanned(&block.generics, "a module holds one filter: no generics"));
    }
    if let Some(field) = &arguments.state {
        add_state(&mut block, field)?;
    }
    if has(&block, "save") != has(&block, "load") {
        return Err(Error::new_spanned(&block.self_ty, "`save` and `load` go together"));
    }
    let offers = Offers { ticks: has(&block, "tick"), finish: has(&block, "flush"), state: has(&block, "save") };
    let filter = &block.self_ty;
    let exports = exports(&quote!(#filter), offers);
    Ok(quote! {
        #block
        #exports
    })
}

fn has(block: &ItemImpl, method: &str) -> bool {
    block.items.iter().any(|item| matches!(item, ImplItem::Fn(function) if function.sig.ident == method))
}

fn add_state(block: &mut ItemImpl, field: &Ident) -> Result<()> {
    if has(block, "save") || has(block, "load") {
        return Err(Error::new(field.span(), "either `state = FIELD` or your own `save` and `load`"));
    }
    block.items.push(parse_quote! {
        fn save(&self) -> ::std::result::Result<::std::vec::Vec<u8>, ::std::string::String> {
            ::tailmill_filter::state::to_bytes(&self.#field)
        }
    });
    block.items.push(parse_quote! {
        fn load(&mut self, saved: &[u8]) -> ::std::result::Result<(), ::std::string::String> {
            self.#field = ::tailmill_filter::state::from_bytes(saved)?;
            ::std::result::Result::Ok(())
        }
    });
    Ok(())
}
