"""Who may call what: TLS, tokens with scopes, and their rates; one decision for gRPC and HTTP."""
