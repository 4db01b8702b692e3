"""The catalogue: recordings of any origin in one form, by instrument and session, checksummed, with their gaps marked.

ROOT/
  _catalogue.json                 what counts: every entry, every instrument; replaced atomically
  ESH4.GLBX/2023-12-26/           a recording, as `start --record` makes it (`market.recording`)
  ESH15.CME/bars-300s/2015/       bars, by calendar year
  .importing-*/                   an import that is not done, or died: nothing reads it, the next import removes it
"""
