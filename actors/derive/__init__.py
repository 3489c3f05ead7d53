"""Features that are derived from events and from other features.

expressions/     the language of conditions and of on-demand features
"""
