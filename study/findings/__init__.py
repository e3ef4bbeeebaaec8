"""What all cells come to: contrasts, verdicts, a page, sentences and figures.

`cells` reads them. A contrast is a row (`rows`); those with a verdict are `primary`, all others
`secondary`, `measured` is what stands beside them, and `all_contrasts` has everything.
`contrasts_json` stores that and reads it again. From it come the page (`results_page`,
`page_sections`, `page_tables`), the sentences (`answers`) and the pictures (`figures`).
`python -m study.findings` writes JSON and page.
"""
