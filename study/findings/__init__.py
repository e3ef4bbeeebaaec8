"""What all cells come to: contrasts, verdicts, a page, sentences and figures.

`cells` reads them. A contrast is a row (`rows`); those with a verdict (`verdicts`) are `primary`,
all others `secondary`, `measured` is what stands beside them, and `all_contrasts` has everything.
`contrasts_json` stores that and reads it again. From it come the page (`results_page`,
`page_sections`, `page_tables`), the sentences (`answers`, `plain_words`; `words` is what both say
them with) and the pictures (`figures`). `numbers` says how all of them show a number.
`python -m study.findings` writes JSON and page.
"""
