"""How the tests look at a page: windows, and what a page may say."""

# Both come from the theme, on every page, and break nothing: sphinx-thebe writes its constants
# twice though it is switched off, and a page opened from a file has no stored colour scheme.
KNOWN = ("Identifier 'THEBE_JS_URL' has already been declared", "Got invalid theme mode")
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
