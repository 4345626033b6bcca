//! `#[filter]` on a function: a type of the same name that implements `Filter` by calling it.

use proc_macro2::TokenStream;
use quote::quote;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Error, FnArg, Ident, ItemFn, Lit, Result, Token, Type, bracketed};

use crate::export::{Offers, exports};

/// `needles = ["…", b"…"]`, `keep_skipped`.
#[derive(Default)]
pub(crate) struct Arguments {
    needles: Vec<Lit>,
    keep_skipped: bool,
}

impl Parse for Arguments {
    fn parse(input: ParseStream<'_>) -> Result<Arguments> {
        let mut arguments = Arguments::default();
        while !input.is_empty() {
            let name: Ident = input.parse()?;
            if name == "needles" {
                input.parse::<Token![=]>()?;
                let list;
                bracketed!(list in input);
                arguments.needles = Punctuated::<Lit, Token![,]>::parse_terminated(&list)?.into_iter().collect();
            } else if name == "keep_skipped" {
                arguments.keep_skipped = true;
            } else {
                return Err(Error::new(name.span(), "on a function: `needles = [\"…\"]` or `keep_skipped`"));
            }
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(arguments)
    }
}

pub(crate) fn expand(arguments: &Arguments, function: &ItemFn) -> Result<TokenStream> {
    let (name, visibility) = (&function.sig.ident, &function.vis);
    let Parameters { config, call } = parameters(function)?;
    let needles = needles(arguments)?;
    let keep_skipped = arguments.keep_skipped;
    let exports = exports(&quote!(#name), Offers::default());
    let about = format!("The filter that [`{name}()`] is: for tests, and for what loads the module.");
    Ok(quote! {
        #function

        #[doc = #about]
        #[allow(non_camel_case_types)]
        #visibility struct #name {
            #[allow(dead_code)]
            config: #config,
        }

        impl ::tailmill_filter::Filter for #name {
            type Config = #config;

            fn start(config: #config) -> ::std::result::Result<Self, ::std::string::String> {
                ::std::result::Result::Ok(Self { config })
            }

            fn traits(&self) -> ::tailmill_filter::Traits {
                ::tailmill_filter::Traits::stateless() #(.needle(&#needles[..]))* .keep_skipped(#keep_skipped)
            }

            #[inline]
            fn line(
                &mut self,
                line: &[u8],
                ctx: &mut ::tailmill_filter::Ctx<'_>,
            ) -> ::std::result::Result<::tailmill_filter::Verdict, ::std::string::String> {
                let _ = &ctx;
                ::tailmill_filter::IntoVerdict::into_verdict(#name(#(#call),*))
            }
        }

        #exports
    })
}

/// Needles as byte strings.
fn needles(arguments: &Arguments) -> Result<Vec<TokenStream>> {
    let bytes = |literal: &Lit| match literal {
        Lit::Str(text) => {
            let bytes = syn::LitByteStr::new(text.value().as_bytes(), text.span());
            Ok(quote!(#bytes))
        }
        Lit::ByteStr(bytes) => Ok(quote!(#bytes)),
        other => Err(Error::new(other.span(), "a needle is a string or a byte string")),
    };
    arguments.needles.iter().map(bytes).collect()
}

struct Parameters {
    config: TokenStream,
    /// The arguments of the call, in the function's order.
    call: Vec<TokenStream>,
}

const SHAPE: &str = "a filter takes the line as `&[u8]`, and after it, if it wants, `&Config` and `&mut Ctx`";

fn parameters(function: &ItemFn) -> Result<Parameters> {
    let signature = &function.sig;
    if signature.asyncness.is_some() || !signature.generics.params.is_empty() {
        return Err(Error::new_spanned(signature, "a filter is a plain function: not async, not generic"));
    }
    let mut found = Parameters { config: quote!(::tailmill_filter::NoConfig), call: Vec::new() };
    let (mut has_config, mut has_ctx) = (false, false);
    for (at, parameter) in signature.inputs.iter().enumerate() {
        let FnArg::Typed(parameter) = parameter else {
            return Err(Error::new_spanned(parameter, SHAPE));
        };
        let Type::Reference(reference) = &*parameter.ty else {
            return Err(Error::new_spanned(&parameter.ty, SHAPE));
        };
        let is_line = matches!(&*reference.elem, Type::Slice(_)) && reference.mutability.is_none();
        if (at == 0) != is_line {
            return Err(Error::new_spanned(&parameter.ty, SHAPE));
        }
        if is_line {
            found.call.push(quote!(line));
        } else if reference.mutability.is_some() && !has_ctx {
            has_ctx = true;
            found.call.push(quote!(ctx));
        } else if reference.mutability.is_none() && !has_config {
            has_config = true;
            let config = &reference.elem;
            found.config = quote!(#config);
            found.call.push(quote!(&self.config));
        } else {
            return Err(Error::new_spanned(&parameter.ty, SHAPE));
        }
    }
    if found.call.is_empty() {
        return Err(Error::new_spanned(signature, SHAPE));
    }
    Ok(found)
}
